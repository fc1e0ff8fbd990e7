"""Whole steps predicted from those before them, without a run of the network."""
