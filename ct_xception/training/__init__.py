"""A corpus becomes weights."""
