"""Files too large for a row."""
