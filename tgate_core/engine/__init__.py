"""What every technique needs and none owns: steps, identity, captures, one network call, and the run that holds them.

A technique is a folder beside this one, and `technique.py` says what it is asked in a run. Nothing here imports any.
"""
