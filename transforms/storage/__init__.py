"""A root on any URL: store, layout, names, parquet files."""
