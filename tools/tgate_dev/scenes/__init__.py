"""Drawn scenes with prompts, and a small model of the host's SD 1.5 class that paints them."""
