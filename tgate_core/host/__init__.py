"""The adapter to ComfyUI: the only part of the core that imports the host.

`install.py` puts T-GATE on a MODEL; from then on the host calls `wrappers.py` (sampling run, evaluation, pass, network
call), `patches.py` (before and after each attention) and `injection.py` (in place of an attention that is skipped).
"""
