"""The fleet that survives an outage before your eyes."""
