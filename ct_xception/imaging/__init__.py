"""One file becomes one honest slice."""
