"""Benchmarks. Unlike the rest of the developer tool they run in the ComfyUI environment, with ComfyUI on the path."""
