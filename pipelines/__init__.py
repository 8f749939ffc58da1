"""What a person runs: one file a job, with its options, the wiring of its graph and `main(argv)`."""
