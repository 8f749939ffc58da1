"""Training against other tools, and what of it takes how long."""
