"""Helpers that tests share: fixtures of databases and stores, records, workers, benches."""
