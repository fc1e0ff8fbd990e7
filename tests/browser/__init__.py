"""A package, so that one server and one browser serve all tests of this folder and end with them."""
