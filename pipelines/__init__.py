"""What a person runs: one file a job, with its options, the wiring of its graph and `main(argv)`."""

import logging

# Importing Beam without its Google Cloud extra logs a warning that means nothing here, before a job can configure logs.
logging.getLogger().addFilter(lambda record: "apitools not found" not in str(record.msg))
