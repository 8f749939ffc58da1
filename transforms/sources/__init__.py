"""Where items come from: names (`uris`), folders and globs (`pictures`), CSV files (`csv_rows`), their table (`items`)."""
