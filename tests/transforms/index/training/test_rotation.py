"""The rotation keeps what varies and gives every subspace its share."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transforms.index.training.chosen_rows import ChosenRows
from transforms.index.training.rotation import allocate, principal_rotation


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_every_direction_goes_to_one_subspace_and_none_gets_more_than_its_share(
    subspaces: int, each: int, seed: int
) -> None:
    variances = np.sort(np.random.default_rng(seed).exponential(size=subspaces * each) ** 4)[::-1]
    order = allocate(variances, subspaces)
    assert sorted(order.tolist()) == list(range(subspaces * each))


def test_subspaces_vary_alike() -> None:
    variances = np.sort(np.random.default_rng(0).exponential(size=64))[::-1]
    products = np.log(variances[allocate(variances, 16)].reshape(16, 4)).sum(axis=1)
    in_order = np.log(variances.reshape(16, 4)).sum(axis=1)
    assert np.ptp(products) < np.ptp(in_order) / 4


def test_rows_are_orthonormal_and_span_the_directions_of_largest_variance() -> None:
    generator = np.random.default_rng(1)
    scales = np.array([9, 7, 5, 3, 0.1, 0.1, 0.1, 0.1], np.float32)
    axes = np.linalg.qr(generator.standard_normal((8, 8)))[0].astype(np.float32)
    latent = generator.standard_normal((5000, 8)).astype(np.float32) * scales
    sample = (latent @ axes.T + 3).astype(np.float32)
    rotation = principal_rotation(ChosenRows(sample), 4, 2, centred=True)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(4), atol=1e-5)
    kept = np.linalg.norm(rotation @ axes[:, :4], ord="fro") ** 2
    assert kept > 3.99


def test_a_sample_smaller_than_its_dimension_works() -> None:
    sample = np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32)
    rotation = principal_rotation(ChosenRows(sample), 8, 4, centred=True)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(8), atol=1e-5)


def test_the_mean_is_a_direction_to_keep_only_about_zero() -> None:
    sample = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
    sample[:, 5] = 9 + 0.01 * sample[:, 5]
    kept = [
        np.linalg.norm(principal_rotation(ChosenRows(sample), 4, 2, centred=centred)[:, 5]) for centred in (False, True)
    ]

    assert kept[0] > 0.99
    assert kept[1] < 0.1
