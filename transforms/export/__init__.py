"""A published root as files that other tools open: faiss, autofaiss, clip-retrieval, and parquet.

A layout says which files there are and what each holds (`faiss_layout`, `autofaiss_layout`, `clip_layout`,
`parquet_layout`); each is a function of the generation and what was asked for, is written aside, and gets its name when
it is whole. Nothing here writes to a root.
"""
