"""Measurements. Unlike the rest of the developer tool they run inside the ComfyUI environment, ComfyUI on the path."""
