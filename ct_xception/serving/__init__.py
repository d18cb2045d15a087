"""A checkpoint answers."""
