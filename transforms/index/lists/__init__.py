"""Inverted lists on storage (`.ivf`): format, reader, writer, merge. No faiss here.

A change of the format is a new version, whose reader knows the old one. Who merges what is in `tasks.merge`; the same
lists in a faiss file are in `index.faiss_file`.
"""
