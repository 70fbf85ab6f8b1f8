"""Settings and policies: their sources, the conversion of texts to values, and what is in effect."""
