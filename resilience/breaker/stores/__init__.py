"""The stores of circuits: Redis, an SQLite file, memory. `store_url.py` chooses one by its URL."""
