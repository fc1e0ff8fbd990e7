"""Seconds of whole sampling runs: T-GATE beside what else there is, step by step in one process."""
