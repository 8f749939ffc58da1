"""What `pixdex evaluate` shows: tables and JSON, and the files of its plots."""
