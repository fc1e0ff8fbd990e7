"""The time of sampling runs on a graphics card, in parts, here or from a bundle on a machine without network."""
