"""Modules of the developer tool, standard library only: they run before anything is installed."""
