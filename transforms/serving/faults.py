"""Why a request gets no answer, where that is neither a mistake in it nor a damaged root."""

from transforms.errors import PixdexError


class BusyError(PixdexError):
    """So much is asked at once that this has to come again."""


class LateError(PixdexError):
    """The answer takes longer than it may."""


class TooLargeError(PixdexError):
    """What is sent is larger than it may be."""


class NoPictureError(PixdexError):
    """There is no picture to be shown: no such item, or none that can be read."""


class NotReachedError(PixdexError):
    """A picture may well be there, and what it lies in cannot be read now."""
