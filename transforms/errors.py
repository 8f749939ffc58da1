"""The two errors a person is meant to read: one line that says what is wrong and how to mend it."""


class PixdexError(Exception):
    """A job cannot go on (exit code 1): the message names the value, the limit and the way out, on one line."""


class UsageError(PixdexError):
    """The request itself is wrong (exit code 2): nothing was done, and the message says what to change."""
