"""Opens a generation and answers queries."""
