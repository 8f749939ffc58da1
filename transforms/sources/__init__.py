"""Where items come from: folders and globs (`pictures`), CSV files (`csv_rows`); their names and their table."""
