"""The index is chosen from counts alone, and a key that cannot work is refused before any work."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import UsageError
from transforms.index.choose import IndexKey, check_key, choose, default_nlist, most_lists
from transforms.records import IndexSettings


@pytest.mark.parametrize(
    ("rows", "dim", "memory", "key"),
    [
        (0, 64, 16 << 30, "IVF1,Flat"),
        (20_000, 512, 16 << 30, "IVF1,Flat"),
        (20_001, 512, 16 << 30, "IVF512,Flat"),
        (10**6, 512, 16 << 30, "IVF4096,Flat"),
        (10**8, 512, 16 << 30, "OPQ64_256,IVF262144,PQ64"),
        (10**9, 512, 32 << 30, "OPQ16_64,IVF1048576,PQ16"),
        (10**9, 512, 16 << 30, "OPQ8_32,IVF1048576,PQ8"),
        (10**6, 100, 50 << 20, "OPQ32_96,IVF4096,PQ32"),
    ],
)
def test_auto_takes_the_most_exact_index_that_fits(rows: int, dim: int, memory: int, key: str) -> None:
    assert str(choose(IndexSettings(max_memory=memory), rows, dim)) == key


def test_auto_refuses_what_fits_in_no_way() -> None:
    with pytest.raises(UsageError, match=r"1000000000 vectors do not fit --max-index-memory 1073741824.*raise it"):
        choose(IndexSettings(max_memory=1 << 30), 10**9, 512)


@given(st.integers(20_001, 10**9), st.integers(8, 2048), st.integers(24, 36))
def test_what_auto_takes_fits_its_memory_and_its_dimension(rows: int, dim: int, memory_bits: int) -> None:
    try:
        key = choose(IndexSettings(max_memory=1 << memory_bits), rows, dim)
    except UsageError:
        assert rows * 16 > 1 << memory_bits
        return

    code = 4 * dim if key.storage == "Flat" else int(key.storage.removeprefix("PQ"))
    assert rows * (code + 8) <= 1 << memory_bits
    if key.transforms:
        size, reduced = map(int, key.transforms[0].removeprefix("OPQ").split("_"))
        assert reduced % size == 0
        assert reduced <= dim
    assert key.rows_needed <= rows


@given(st.integers(0, 10**11))
def test_there_are_never_fewer_than_39_vectors_a_list(rows: int) -> None:
    for lists in (default_nlist(rows), most_lists(rows)):
        assert lists & (lists - 1) == 0
        assert lists == 1 or lists * 39 <= rows


@pytest.mark.parametrize(
    "key",
    ["auto", "Flat", "IVF,Flat", "IVF64,Flat", "IVF64,PQ8", "IVF64,PQ8x4", "IVF64,PQ8np", "IVF64,SQ8", "IVF64,SQfp16",
     "IVF64_HNSW32,PQ8", "OPQ8,IVF64,PQ8", "OPQ8_8,IVF,PQ8", "PCA8,IVF64,SQ8", "RR16,IVF64,Flat", "PCAR8,IVF64,PQ8",
     "IVF64,RaBitQ"],
)  # fmt: skip
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_keys_of_the_ivf_family_are_accepted(key: str, metric: str) -> None:
    check_key(IndexSettings(key, "l2" if metric == "l2" else "ip"), 16)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("IVF4,PQ5", "multiple of the number of subquantizers"),
        ("IVF64,PQ4fs", "FastScan codes cannot be merged; build PQ4 and"),
        ("IVF64,PQ4x4fsr", "FastScan codes cannot be merged; build PQ4x4 and"),
        ("LSH", "not of the IVF family: use auto, Flat"),
        ("HNSW32", "not of the IVF family"),
        ("", "not of the IVF family"),
        ("nonsense", "not of the IVF family"),
        ("ivf64,flat", "not of the IVF family"),
        ("IVF64", "not of the IVF family"),
        ("IVF64,Flat,RFlat", "not of the IVF family"),
        ("IVF64,Nonsense", "could not parse"),
        ("IVF64,PQ8+4", "does not work with 16 dimensions"),
        ("PCA32,IVF64,Flat", "keeps 32 components of vectors that have 16"),
    ],
)
def test_keys_that_cannot_work_are_refused_with_the_reason_on_one_line(key: str, reason: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_key(IndexSettings(key), 16)

    assert f"--index-key {key}" in str(raised.value)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_too_few_vectors_get_fewer_lists_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        key = choose(IndexSettings("OPQ8,IVF1024,PQ8"), 1000, 16)

    assert str(key) == "OPQ8,IVF16,PQ8"
    assert "IVF1024,PQ8 needs 39 vectors a list, there are 1000 in all: using OPQ8,IVF16,PQ8" in caplog.text


def test_enough_vectors_get_what_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    assert str(choose(IndexSettings("IVF25_HNSW32,SQ8"), 1000, 16)) == "IVF25_HNSW32,SQ8"
    assert caplog.text == ""


def test_flat_is_one_list() -> None:
    assert str(choose(IndexSettings("Flat"), 10**7, 16)) == "IVF1,Flat"


def test_an_open_number_of_lists_follows_from_the_vectors() -> None:
    assert str(choose(IndexSettings("IVF,Flat"), 10**6, 16)) == "IVF4096,Flat"


@pytest.mark.parametrize(
    ("key", "needed"),
    [("IVF1,PQ8", 256), ("IVF1,PQ8x4", 16), ("IVF1,PQ4x10", 1024), ("OPQ8,IVF1,Flat", 256), ("PCA8,IVF1,Flat", 8)],
)
def test_too_few_vectors_to_train_are_refused(key: str, needed: int) -> None:
    with pytest.raises(
        UsageError, match=rf"needs at least {needed} vectors to train, there are {needed - 1}: use Flat"
    ):
        choose(IndexSettings(key), needed - 1, 16)
    choose(IndexSettings(key), needed, 16)


@given(st.sampled_from(["Flat", "IVF,Flat", "IVF64,PQ8", "OPQ16_64,IVF1024,PQ16", "IVF8_HNSW32,SQ8"]))
def test_a_key_reads_back_as_faiss_reads_it(key: str) -> None:
    parsed = IndexKey.parse(key).with_lists(32)

    assert IndexKey.parse(str(parsed)) == parsed
