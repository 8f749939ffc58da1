"""A row that the encoder cannot take is found; an encoder that is broken blames no row."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.rejects import Failure
from transforms.tasks.embed.encode_slots import encode_slots

DIM = 4
Slots = Sequence[float | None]
Vectors = NDArray[np.float32]


def encode(slots: Slots) -> Vectors:
    return np.array([[slot or 0] * DIM for slot in slots], np.float32)


def refusing(*bad: float, error: type[Exception] = ValueError) -> "EncodeNumbers":
    return EncodeNumbers(bad, error)


class EncodeNumbers:
    """Takes every number but some."""

    def __init__(self, bad: Sequence[float], error: type[Exception]) -> None:
        self.bad, self.error = bad, error
        self.calls = 0

    def __call__(self, slots: Slots) -> Vectors:
        self.calls += 1
        if any(slot in self.bad for slot in slots if slot is not None):
            raise self.error("no")
        return encode(slots)


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


def test_a_sound_batch_is_encoded_at_once() -> None:
    encoder = refusing()
    vectors, failures = encode_slots(encoder, [1, None, 3], DIM)

    np.testing.assert_array_equal(vectors, [[1] * DIM, [0] * DIM, [3] * DIM])
    assert not failures and encoder.calls == 1


def test_the_culprits_fail_and_the_others_keep_their_places() -> None:
    vectors, failures = encode_slots(refusing(2, 4), [1, 2, 3, 4, None], DIM)

    assert failures == {1: Failure("encode", "ValueError", "no"), 3: Failure("encode", "ValueError", "no")}
    np.testing.assert_array_equal(vectors[[0, 2]], [[1] * DIM, [3] * DIM])


def test_a_single_row_that_fails_is_at_fault_itself() -> None:
    vectors, failures = encode_slots(refusing(2), [None, 2, None], DIM)

    assert list(failures) == [1]
    assert vectors.shape == (3, DIM) and vectors.dtype == np.float32


def test_rows_that_all_fail_in_ways_of_their_own_are_at_fault_themselves() -> None:
    def fail(slots: Slots) -> Vectors:
        raise ValueError("odd") if 1 in slots else TypeError("even")

    vectors, failures = encode_slots(fail, [1, 2], DIM)

    assert [failure.type for failure in failures.values()] == ["ValueError", "TypeError"]
    assert vectors.shape == (2, DIM)


def test_where_every_row_fails_alike_the_encoder_is_at_fault() -> None:
    with pytest.raises(PixdexError, match=r"each of the 2 rows of a batch \(RuntimeError: no\): .* --encoder-batch"):
        encode_slots(refusing(1, 2, error=RuntimeError), [1, 2, None], DIM)


@pytest.mark.parametrize("error", [MemoryError, OutOfMemoryError])
def test_memory_that_runs_out_is_the_encoders_fault_at_once(error: type[Exception]) -> None:
    encoder = refusing(2, error=error)
    with pytest.raises(PixdexError, match=rf"out of memory \({error.__name__}: no\): use a smaller --encoder-batch"):
        encode_slots(encoder, [1, 2, 3], DIM)
    assert encoder.calls == 1


def test_a_batch_that_fails_though_every_row_passes_alone_is_the_encoders_fault() -> None:
    def small(slots: Slots) -> Vectors:
        if sum(slot is not None for slot in slots) > 1:
            raise RuntimeError("too much")
        return encode(slots)

    with pytest.raises(PixdexError, match=r"none of its rows alone \(RuntimeError: too much\)"):
        encode_slots(small, [1, 2], DIM)


@pytest.mark.parametrize("shape", [(3, 1), (1, DIM), (2, DIM), (4, DIM), (3,), (3, DIM, 1)])
def test_vectors_of_another_shape_are_refused_and_never_stretched(shape: tuple[int, ...]) -> None:
    with pytest.raises(PixdexError) as refused:
        encode_slots(lambda slots: np.ones(shape, np.float32), [1, 2, 3], DIM)
    assert f"vectors of shape {shape}, not (3, {DIM})" in str(refused.value)


def test_lists_of_numbers_are_vectors_too() -> None:
    vectors, _ = encode_slots(lambda slots: [[1.0] * DIM for _ in slots], [1, 2], DIM)  # type: ignore[arg-type,return-value]  # as people write it

    assert vectors.dtype == np.float32 and vectors.shape == (2, DIM)
