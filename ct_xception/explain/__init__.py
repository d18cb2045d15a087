"""Why it answered so."""
