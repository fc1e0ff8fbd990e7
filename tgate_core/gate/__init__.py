"""The gate of T-GATE (arXiv 2404.02747): settings, schedule, guidance modes, and what they do in a run."""
