"""The error that a person is meant to read."""


class ClusterError(Exception):
    """One line that says what is wrong and how to mend it."""
