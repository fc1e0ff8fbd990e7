"""Seconds of whole sampling runs, T-GATE beside what else there is, taken in turns in one process."""
