"""Encodes one batch of fixed slots; tells a row that the encoder cannot take from an encoder that is broken."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.rejects import Failure

Encode = Callable[[Sequence[Any]], NDArray[np.float32]]
"""Takes the slots of a batch, of which None is an empty one, and returns a vector for each."""

_WAY_OUT = "use a smaller --encoder-batch or another --device, or run the same command again"


def encode_slots(encode: Encode, slots: Sequence[Any], dim: int) -> tuple[NDArray[np.float32], dict[int, Failure]]:
    """Encodes a batch; when it fails, finds the slots that make it fail and encodes the others in their places.

    Args:
        encode: the encoder.
        slots: the batch; None is an empty slot.
        dim: components of a vector.

    Returns:
        The vectors, float32 `(slots, dim)`, and the failure of every slot that has one.

    Raises:
        PixdexError: the encoder is at fault and not a row: it is out of memory, fails in one way on every one of
            several rows, fails on none of them alone, or returns vectors of another shape.
    """

    def attempt(batch: Sequence[Any]) -> NDArray[np.float32] | Failure:
        try:
            vectors = np.asarray(encode(batch), np.float32)
        except PixdexError:
            raise
        except Exception as error:  # an encoder may raise anything
            failure = Failure.of("encode", error)
            if _out_of_memory(error):
                raise PixdexError(f"the encoder is out of memory ({failure}): {_WAY_OUT}") from error
            return failure
        if vectors.shape != (len(slots), dim):
            raise PixdexError(
                f"the encoder returned vectors of shape {vectors.shape}, not {(len(slots), dim)}: mend the encoder"
            )
        return vectors

    whole = attempt(slots)
    if not isinstance(whole, Failure):
        return whole, {}
    filled = [number for number, slot in enumerate(slots) if slot is not None]
    failures: dict[int, Failure] = {}
    for number in filled:
        alone = attempt([slot if other == number else None for other, slot in enumerate(slots)])
        if isinstance(alone, Failure):
            failures[number] = alone
    if len(failures) == len(filled):
        if len(filled) > 1 and len({failure.type for failure in failures.values()}) == 1:
            raise PixdexError(f"the encoder fails on each of the {len(filled)} rows of a batch ({whole}): {_WAY_OUT}")
        return np.zeros((len(slots), dim), np.float32), failures
    sound = attempt([None if number in failures else slot for number, slot in enumerate(slots)])
    if isinstance(sound, Failure):
        raise PixdexError(f"the encoder fails on a batch, but on none of its rows alone ({sound}): {_WAY_OUT}")
    return sound, failures


def _out_of_memory(error: Exception) -> bool:
    """By the name of torch's error, so that an encoder without torch needs none."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
