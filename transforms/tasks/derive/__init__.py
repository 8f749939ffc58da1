"""What makes a shard of the rows of another root, and cuts these into tasks: shards of it, or groups of its lists."""
