"""One process's part of the shared circuits: local copies that decide without I/O, and the thread that syncs them with the store."""
