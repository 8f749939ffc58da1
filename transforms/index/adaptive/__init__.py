"""Where a query may stop: how widely the rows of each list are spread, and which lists are therefore worth a probe."""
