"""Ranges of scalar quantizers: never a larger error than with all values spanned, and of normal ones the least."""

from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.index.training.scalar_ranges import RANGE_ROWS, train_ranges

QUANTIZERS = {4: faiss.ScalarQuantizer.QT_4bit, 6: faiss.ScalarQuantizer.QT_6bit, 8: faiss.ScalarQuantizer.QT_8bit}
Rows = NDArray[np.float32]


def coded(rows: Rows, bits: int, ranges: Rows | None) -> Rows:
    """Rows after faiss's coding, with our ranges or its own."""
    quantizer: Any = faiss.ScalarQuantizer(rows.shape[1], QUANTIZERS[bits])
    quantizer.train(rows)
    if ranges is not None:
        faiss.copy_array_to_vector(ranges, quantizer.trained)
    decoded: Rows = quantizer.decode(quantizer.compute_codes(rows))
    return decoded


def error(rows: Rows, bits: int, ranges: Rows | None) -> NDArray[np.float64]:
    """The mean squared error of each component, float64 `(d,)`."""
    return np.asarray(((coded(rows, bits, ranges).astype(np.float64) - rows) ** 2).mean(axis=0))


@pytest.mark.parametrize(("bits", "least"), [(4, 0.01154), (6, 0.00104)])
def test_of_normal_values_the_error_is_the_least_that_equal_steps_can_have(bits: int, least: float) -> None:
    rows = np.random.default_rng(0).normal(3, 2, (20_000, 12)).astype(np.float32)
    found = error(rows, bits, train_ranges(rows, bits)) / 4  # Max 1960, table II; of 64 steps by the same formula
    assert found.mean() < 1.08 * least
    assert (found < 1.2 * least).all()
    if bits == 4:
        assert (found < 0.6 * error(rows, bits, None) / 4).all()


@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["normal", "uniform", "heavy", "two values", "constant"]),
    size=st.sampled_from([1e-12, 1.0, 1e12]),
    count=st.integers(1, 300),
    bits=st.sampled_from([4, 6, 8]),
)
def test_no_component_is_coded_worse_than_by_spanning_all_of_it(
    seed: int, kind: str, size: float, count: int, bits: int
) -> None:
    generator = np.random.default_rng(seed)
    drawn = {
        "normal": generator.standard_normal((count, 130)),
        "uniform": generator.random((count, 130)),
        "heavy": generator.standard_t(1.5, (count, 130)),
        "two values": generator.integers(0, 2, (count, 130)).astype(float),
        "constant": np.full((count, 130), 0.25),
    }[kind]
    rows = (size * drawn).astype(np.float32)
    ranges = train_ranges(rows, bits)
    assert ranges.dtype == np.float32 and ranges.shape == (260,) and np.isfinite(ranges).all()
    # faiss's last level holds the highest value alone; a share of a step is what that may cost here.
    step = (rows.max(axis=0) - rows.min(axis=0)).astype(np.float64) / ((1 << bits) - 1)
    assert (error(rows, bits, ranges) <= 1.01 * error(rows, bits, None) + step**2 / 4).all()


def test_many_rows_are_sampled_and_none_are_all_zero() -> None:
    rows = np.random.default_rng(1).standard_normal((3 * RANGE_ROWS + 1, 4)).astype(np.float32)
    assert np.allclose(train_ranges(rows, 4), train_ranges(rows[::4], 4))
    assert not train_ranges(np.empty((0, 4), np.float32), 4).any()
