"""Inverted lists on storage (`.ivf`): format, reader, writer, merge."""
