"""Opens a generation and answers queries: mapped, ranked, without dead rows, with what each result is.

It never writes to a root, and imports neither Beam nor stages. What it opens is named in `generations`; how lists are
scanned is in `index`.
"""
