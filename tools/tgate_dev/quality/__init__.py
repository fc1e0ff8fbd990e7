"""Picture quality: what each way to save costs, and how far it leads from the plain picture. In ComfyUI's Python."""
