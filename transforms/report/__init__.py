"""The report of a generation: one page that says what it is, what it is worth and what it took, with pictures.

`described` says what a generation holds, as `pixdex inspect` does, and imports nothing heavy; `make` makes the page of
all that the other modules find.
"""
