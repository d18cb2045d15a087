"""The world sees it."""
