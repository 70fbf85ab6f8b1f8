"""The writer thread: the recorder that callers use, its queue, and when batches are due.

The statements that insert rows are in `history/store/`.
"""
