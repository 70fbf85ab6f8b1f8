"""How long rows are kept, and the job that deletes them."""
