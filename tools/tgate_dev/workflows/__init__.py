"""The workflows that are made by a program: short descriptions, one layout, saved as the editor saves them."""
