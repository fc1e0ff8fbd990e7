"""Pictures of runs and measurements, drawn with Pillow, which every ComfyUI has."""
