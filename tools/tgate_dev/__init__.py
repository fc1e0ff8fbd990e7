"""Modules of the developer tool. `bootstrap` starts it with nothing but a Python and fetches what the others import."""
