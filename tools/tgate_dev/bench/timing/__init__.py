"""Sampling time of T-GATE and its alternatives, measured step by step in one process."""
