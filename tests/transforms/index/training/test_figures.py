"""How many rows and parents a training takes."""

import pytest

from transforms.index.index_key import IndexKey
from transforms.index.training.figures import Shares, parents_of, sample_shares


def test_training_gets_40_rows_a_list_enough_for_codebooks_and_4096_to_check_with() -> None:
    shares = sample_shares(IndexKey.parse("IVF4096,Flat"), 10**7)
    assert shares == Shares(65_536 / 10**7, 4096 * 40 / 10**7, (4096 * 40 + 4096) / 10**7)
    assert sample_shares(IndexKey.parse("Flat"), 10**6).trained == 65_536 / 10**6


def test_the_pilot_grows_with_the_parents() -> None:
    assert sample_shares(IndexKey.parse("IVF1048576,Flat"), 10**9).pilot == 256 * 1024 / 10**9


def test_of_few_rows_a_32nd_is_held_out_and_all_others_are_trained_on() -> None:
    assert sample_shares(IndexKey.parse("IVF4,Flat"), 3200) == Shares(3100 / 3200, 3100 / 3200, 1.0)


def test_no_row_is_held_out_where_training_needs_it() -> None:
    assert sample_shares(IndexKey.parse("IVF4,PQ4"), 500) == Shares(1.0, 1.0, 1.0)
    assert sample_shares(IndexKey.parse("Flat"), 1) == Shares(1.0, 1.0, 1.0)
    assert sample_shares(IndexKey.parse("Flat"), 0).sampled == 0.0


@pytest.mark.parametrize(("nlist", "parents"), [(1, 1), (255, 1), (256, 16), (4096, 64), (2**20, 1024)])
def test_many_lists_have_the_square_root_of_their_number_as_parents(nlist: int, parents: int) -> None:
    assert parents_of(nlist) == parents
