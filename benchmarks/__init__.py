"""Measurements of this package, each printed as a table and, with --json, as one JSON object."""
