"""Nights: what is new, changed or gone, what is damaged, and who is killed or comes at the same time."""
