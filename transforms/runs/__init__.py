"""One request on its way: the run, its beginning, partitions, inventory."""
