"""A table and its rows, each of which means an image."""
