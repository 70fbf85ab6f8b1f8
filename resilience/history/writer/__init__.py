"""Writing the history: the recorder that callers use, and what its background thread does with records."""
