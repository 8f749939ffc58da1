"""One request on its way to a generation: the run with its stages and markers, partitions and blocks, inventory.

Numbers that are given out here are never used again. What the request is of is in `records`, what its tasks do in
`tasks`, what becomes of it in `generations`.
"""
