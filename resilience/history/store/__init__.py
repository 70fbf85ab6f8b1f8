"""SQL that writes: one transaction with a batch of rows (`batches.py`) and its counters, circuit events and job leases."""
