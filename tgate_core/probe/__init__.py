"""Measuring when attention settles: the measurement of a run, the profile that comes of it, and its file."""
