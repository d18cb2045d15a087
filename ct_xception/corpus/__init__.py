"""Many files become a corpus."""
