"""Texts and pictures of the nodes that are made from the nodes themselves."""
