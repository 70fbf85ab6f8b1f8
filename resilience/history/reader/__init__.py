"""Reading the history: typed queries, ad-hoc SQL, and the latest records of this process. Imports nothing of the writer."""
