"""One element is made while the caller works on the one before, and nothing is left behind when the caller stops."""

import threading
from collections.abc import Generator

import pytest

from transforms.shards.read_ahead import read_ahead


class Counted:
    """A generator of numbers that knows how far it came, and whether it was closed."""

    def __init__(self, count: int, fail_at: int | None = None) -> None:
        self.made = 0
        self.closed = False
        self.thread: threading.Thread | None = None
        self._count = count
        self._fail_at = fail_at

    def __iter__(self) -> Generator[int, None, None]:
        self.thread = threading.current_thread()
        try:
            for number in range(self._count):
                if number == self._fail_at:
                    raise OSError("the disk is gone")
                self.made = number + 1
                yield number
        finally:
            self.closed = True


def generator(source: Counted) -> Generator[int, None, None]:
    return source.__iter__()


def test_elements_come_in_order_from_another_thread() -> None:
    source = Counted(100)
    assert list(read_ahead(generator(source))) == list(range(100))
    assert source.closed and source.thread is not threading.current_thread()


def test_it_is_one_element_ahead_and_no_more() -> None:
    source = Counted(100)
    ahead = read_ahead(generator(source))
    for number in range(5):
        assert next(ahead) == number
        assert source.made <= number + 2
    ahead.close()


def test_an_error_comes_after_what_was_made_before_it() -> None:
    source = Counted(100, fail_at=3)
    ahead = read_ahead(generator(source))
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)
    assert source.closed


def test_closing_it_ends_the_thread_and_closes_the_generator() -> None:
    source = Counted(100)
    elements = generator(source)  # held here, so that nothing but `close` can end it
    ahead = read_ahead(elements)
    assert next(ahead) == 0
    ahead.close()
    assert source.closed and source.made <= 2
    assert source.thread is not None and not source.thread.is_alive()


def test_a_caller_that_fails_leaves_no_thread() -> None:
    source = Counted(100)

    def work() -> None:
        for _ in read_ahead(generator(source)):
            raise ValueError("the caller fails")

    with pytest.raises(ValueError, match="the caller fails"):
        work()
    assert source.closed
    assert source.thread is not None and not source.thread.is_alive()
