"""T-GATE: temporal gating of attention (arXiv 2404.02747, versions 1 and 2).

Everything here decides: what a step computes, captures and reuses. It imports torch and nothing of ComfyUI; the
sub-package `host` is the only place that touches the host.
"""
