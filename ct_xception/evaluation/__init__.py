"""Figures, measured and with their intervals."""
