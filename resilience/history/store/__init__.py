"""Writing to the database: batches of rows, counters, circuit events and job leases."""
