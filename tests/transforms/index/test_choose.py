"""The index is chosen from counts alone, and a key that cannot work is refused before any work."""

import logging
from dataclasses import replace

import faiss
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from transforms.errors import UsageError
from transforms.index.choose import check_key, choose, default_nlist, index_bytes, most_lists
from transforms.index.faiss_file import describe_trained
from transforms.index.index_key import IndexKey, code_size
from transforms.records import IndexSettings, Metric


@pytest.mark.parametrize(
    ("rows", "dim", "memory", "key"),
    [
        (0, 64, 16 << 30, "IVF1,Flat"),
        (20_000, 512, 16 << 30, "IVF1,Flat"),
        (20_001, 512, 16 << 30, "IVF512,Flat"),
        (10**6, 512, 16 << 30, "IVF4096,Flat"),
        (5 * 10**6, 512, 16 << 30, "IVF65536_HNSW32,Flat"),
        (10**8, 512, 16 << 30, "OPQ64_256,IVF262144_HNSW32,PQ64"),
        (10**9, 512, 32 << 30, "OPQ16_64,IVF1048576_HNSW32,PQ16"),
        (10**9, 512, 16 << 30, "OPQ8_32,IVF1048576_HNSW32,PQ8"),
        (10**9, 512, 12 << 30, "OPQ8_32,IVF1048576_HNSW32,PQ8x4"),
        (10**10, 512, 1 << 40, "OPQ64_256,IVF1048576_HNSW32,PQ64"),
        (10**11, 512, 8 << 40, "OPQ64_256,IVF4194304_HNSW32,PQ64"),
        (10**6, 100, 50 << 20, "OPQ32_96,IVF4096,PQ32"),
        (10**6, 64, 80 << 20, "PCAR64,IVF4096,SQ8"),
        (10**6, 64, 60 << 20, "OPQ32_64,IVF4096,PQ32"),
        (10**6, 2, 12 << 20, "PCAR2,IVF4096,SQ8"),
    ],
)
def test_auto_takes_the_most_exact_index_that_fits(rows: int, dim: int, memory: int, key: str) -> None:
    assert str(choose(IndexSettings(max_memory=memory), rows, dim)) == key


def test_auto_refuses_what_fits_in_no_way() -> None:
    with pytest.raises(UsageError, match=r"1000000000 vectors do not fit --max-index-memory 1073741824: even .*raise"):
        choose(IndexSettings(max_memory=1 << 30), 10**9, 512)


@pytest.mark.parametrize(
    ("size", "dim", "key"),
    [
        (64, 512, "OPQ64_256,IVF4096,PQ64"),
        (48, 512, "OPQ48_192,IVF4096,PQ48"),
        (7, 512, "OPQ14_56,IVF4096,PQ14x4"),
        (4, 512, "OPQ8_32,IVF4096,PQ8x4"),
        (33, 100, "OPQ33_99,IVF4096,PQ33"),
        (50, 100, "OPQ50_100,IVF4096,PQ50"),
        (51, 100, "PCAR51,IVF4096,SQ8"),
        (100, 100, "PCAR100,IVF4096,SQ8"),
        (1, 1, "PCAR1,IVF4096,SQ8"),
    ],
)
def test_a_code_size_is_kept_to_the_byte(size: int, dim: int, key: str) -> None:
    chosen = choose(IndexSettings(code_size=size), 10**6, dim)
    assert str(chosen) == key
    assert code_size(chosen, dim) == size


@pytest.mark.parametrize(
    ("settings", "rows", "dim", "reason"),
    [
        (IndexSettings(code_size=600), 10**6, 512, "--code-size 600 is more than a byte for each of 512 dimensions"),
        (IndexSettings(code_size=8), 200, 512, "--code-size 8 needs at least 256 vectors to train, there are 200"),
        (IndexSettings(code_size=64, max_memory=1 << 20), 10**6, 512, "more than --max-index-memory 1048576: raise"),
        (IndexSettings(code_size=64, metric="l1"), 10**6, 512, "does not go with --metric-type l1"),
        (IndexSettings(max_memory=1 << 30, metric="l1"), 10**9, 512, "even IVF1,Flat takes"),
    ],
)
def test_what_auto_is_asked_for_in_vain_is_refused(settings: IndexSettings, rows: int, dim: int, reason: str) -> None:
    with pytest.raises(UsageError) as raised:
        choose(settings, rows, dim)
    assert reason in str(raised.value)


def test_l1_is_flat_whatever_the_number_of_vectors() -> None:
    assert str(choose(IndexSettings(metric="l1"), 10**6, 64)) == "IVF1,Flat"


@given(
    st.integers(0, 11).flatmap(lambda power: st.integers(1, 10**power)),
    st.integers(1, 4096),
    st.integers(10, 50),
    st.none() | st.integers(1, 200),
    st.sampled_from(["ip", "l2", "l1"]),
)
def test_whatever_auto_takes_fits_its_memory_and_is_built_by_faiss(
    rows: int, dim: int, memory_bits: int, size: int | None, metric: Metric
) -> None:
    settings = IndexSettings("auto", metric, 1 << memory_bits, size)
    try:
        key = choose(settings, rows, dim)
    except UsageError:
        assume(False)
    assert index_bytes(key, rows, dim) <= 1 << memory_bits
    assert size is None or code_size(key, dim) == size
    assert key.rows_needed <= rows
    assert key.nlist == 1 or key.nlist * 39 <= rows
    index = faiss.index_factory(dim, str(key.with_lists(1)), faiss.METRIC_L2)
    assert describe_trained(index).code_size == code_size(key, dim)
    check_key(replace(settings, key=str(key), code_size=None), dim)


@given(st.integers(0, 10**11))
def test_there_are_never_fewer_than_39_vectors_a_list(rows: int) -> None:
    for lists in (default_nlist(rows), most_lists(rows)):
        assert lists & (lists - 1) == 0
        assert lists == 1 or lists * 39 <= rows


@given(st.integers(10**5, 10**11))
def test_the_lists_of_a_default_stay_short(rows: int) -> None:
    assert rows / default_nlist(rows) <= 10**5


@pytest.mark.parametrize(
    "key",
    ["auto", "Flat", "IVF,Flat", "IVF64,Flat", "IVF64,PQ8", "IVF64,PQ8x4", "IVF64,PQ8np", "IVF64,SQ8", "IVF64,SQfp16",
     "IVF64_HNSW32,PQ8", "OPQ8,IVF64,PQ8", "OPQ8_8,IVF,PQ8", "PCA8,IVF64,SQ8", "RR16,IVF64,Flat", "PCAR8,IVF64,PQ8",
     "IVF64,RaBitQ", "IVF64,RaBitQ4", "L2norm,IVF64,SQ4", "IVF64,SQ6", "Pad32,IVF64,PQ32", "IVF99999999999,Flat"],
)  # fmt: skip
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_keys_of_the_ivf_family_are_accepted(key: str, metric: str) -> None:
    check_key(IndexSettings(key, "l2" if metric == "l2" else "ip"), 16)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (IndexSettings("IVF4,PQ5"), "--index-key IVF4,PQ5: it does not work with 16 dimensions"),
        (IndexSettings("IVF64,PQ4x4fs"), "FastScan codes cannot be merged; build PQ4x4 and"),
        (IndexSettings("IVF64,PQ8,RFlat"), "leave it out"),
        (IndexSettings("PCA32,IVF64,Flat"), "keeps 32 components of vectors that have 16"),
        (IndexSettings("IVF64,PQ8", code_size=8), "--code-size is what auto goes by"),
        (IndexSettings("IVF64,Flat", "l1"), "does not go with --metric-type l1"),
        (IndexSettings("IVF64,RaBitQ", "l1"), "does not go with --metric-type l1"),
        (IndexSettings("RR,IVF1,Flat", "l1"), "does not go with --metric-type l1"),
        (IndexSettings(code_size=17), "more than a byte for each of 16 dimensions"),
    ],
)
def test_keys_that_cannot_work_are_refused_with_the_reason_on_one_line(settings: IndexSettings, reason: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_key(settings, 16)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_too_few_vectors_get_fewer_lists_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        key = choose(IndexSettings("OPQ8,IVF1024,PQ8"), 1000, 16)
    assert str(key) == "OPQ8,IVF16,PQ8"
    assert "IVF1024,PQ8 needs 39 vectors a list, there are 1000 in all: using OPQ8,IVF16,PQ8" in caplog.text


def test_who_only_looks_up_the_key_warns_nobody(caplog: pytest.LogCaptureFixture) -> None:
    assert str(choose(IndexSettings("OPQ8,IVF1024,PQ8"), 1000, 16, warn=False)) == "OPQ8,IVF16,PQ8"
    assert caplog.text == ""


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


def test_the_bytes_of_an_index_are_those_that_faiss_writes() -> None:
    for text in ("IVF64,Flat", "PCA16,IVF64,PQ8x4", "IVF64_HNSW32,SQ8"):
        index = faiss.index_factory(64, text)
        vectors = faiss.rand((4000, 64), 1)
        index.train(vectors)
        index.add(vectors)
        assert index_bytes(IndexKey.parse(text), 4000, 64) == pytest.approx(len(faiss.serialize_index(index)), rel=0.2)
