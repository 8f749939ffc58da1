"""The arithmetic of a key is faiss's own, and what is not built here is refused with its reason."""

import faiss
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import UsageError
from transforms.index.index_key import IndexKey, code_size, reduced_dim

METRICS = {"ip": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2}
TRANSFORMS = ("", "PCA40,", "PCAR40,", "PCAW40,", "PCAWR40,", "RR,", "RR80,", "OPQ4_40,", "OPQ8,", "L2norm,", "Pad200,",
              "PCA80,OPQ20_40,")  # fmt: skip


@pytest.mark.parametrize(
    "storage",
    ["Flat", "PQ8", "PQ4x4", "PQ8x4", "PQ4x6", "PQ5x7", "PQ8x10", "PQ4x12", "PQ2x16", "PQ8np", "SQ4", "SQ6", "SQ8",
     "SQfp16", "SQbf16", "RaBitQ", *(f"RaBitQ{bits}" for bits in range(1, 10))],
)  # fmt: skip
@pytest.mark.parametrize("metric", METRICS)
def test_the_code_size_is_that_of_faiss(storage: str, metric: str) -> None:
    for transforms in TRANSFORMS:
        text = f"{transforms}IVF4,{storage}"
        index = faiss.index_factory(120, text, METRICS[metric])
        inner = faiss.extract_index_ivf(index)
        key = IndexKey.parse(text)
        assert (reduced_dim(key, 120), code_size(key, 120)) == (inner.d, inner.code_size), text


@given(
    st.integers(1, 300), st.sampled_from(["Flat", "SQ4", "SQ6", "SQ8", "SQfp16", "RaBitQ", *"12345", "PQ1", "PQ1x5"])
)
def test_odd_dimensions_have_the_code_size_of_faiss(dim: int, storage: str) -> None:
    text = f"IVF4,{storage if storage[0] > '9' else f'RaBitQ{storage}'}"
    assert code_size(IndexKey.parse(text), dim) == faiss.index_factory(dim, text).code_size


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("IVF4,PQ8x8", "IVF4,PQ8"),
        ("IVF4,PQ8np", "IVF4,PQ8"),
        ("IVF4,PQ8x8np", "IVF4,PQ8"),
        ("IVF4,PQ8x4np", "IVF4,PQ8x4"),
        ("IVF4_HNSW,Flat", "IVF4_HNSW32,Flat"),
        ("Flat", "IVF1,Flat"),
    ],
)
def test_spellings_of_one_index_are_one_key(key: str, kept: str) -> None:
    assert str(IndexKey.parse(key)) == kept


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("IVF4,Nonsense", "Nonsense is not a storage known here: use Flat, PQm"),
        ("IVF4,SQ8_direct", "not a storage known here"),
        ("IVF4,RaBitQ0", "not a storage known here"),
        (
            "IVF4,PQ5",
            "no multiple of the number of subquantizers 5: take a divisor of 16, or reduce before with OPQ5_",
        ),
        ("IVF4,PQ32", "no multiple of the number of subquantizers 32: take a divisor of 16"),
        ("IVF4,PQ8x0", "1 to 16 bits, not 0"),
        ("IVF4,PQ8x17", "1 to 16 bits, not 17"),
        ("OPQ4_10,IVF4,PQ5", "OPQ4_10 rotates 10 dimensions, no multiple of its 4 parts"),
        ("OPQ5,IVF4,Flat", "OPQ5 rotates 16 dimensions, no multiple of its 5 parts"),
        ("OPQ8_32,IVF4,PQ8", "OPQ8_32 keeps 32 components of vectors that have 16"),
        ("PCA32,IVF4,Flat", "PCA32 keeps 32 components of vectors that have 16"),
        ("RR8,PCA12,IVF4,Flat", "PCA12 keeps 12 components of vectors that have 8"),
        ("Pad8,IVF4,Flat", "Pad8 cannot pad vectors that have 16 components"),
        ("ITQ8,IVF4,Flat", "ITQ8 is not a transform known here: use OPQm_d, PCAn"),
    ],
)
def test_what_does_not_go_with_the_dimension_has_no_code_size(key: str, reason: str) -> None:
    with pytest.raises(UsageError) as raised:
        code_size(IndexKey.parse(key), 16)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("IVF64,PQ4x4fs", "FastScan codes cannot be merged; build PQ4x4 and search with --fast-scan"),
        ("IVF64,PQ4x4fsr", "FastScan codes cannot be merged; build PQ4x4 and"),
        ("IVF64,RaBitQfs", "FastScan codes cannot be merged; build RaBitQ and"),
        ("IVF64,PQ8,RFlat", "stores no second copy of vectors, so RFlat does not go with it"),
        ("IVF64,Flat,Refine(SQ8)", "so Refine(SQ8) does not go with it"),
        ("IVF1024(IVF32,Flat),PQ8", "in parentheses is not trained here: write IVFn, or IVFn_HNSW32"),
        ("IMI2x8,PQ8", "an inverted multi-index is not trained here"),
        ("IVF64,RQ4x8", "additive quantizers are not trained here"),
        ("IVF64,LSQ4x8", "additive quantizers are not trained here"),
        ("IVF64,PRQ2x2x8", "additive quantizers are not trained here"),
        ("IVF64,PLSQ2x2x8", "additive quantizers are not trained here"),
        ("IVF64_HNSW1,PQ8", "an HNSW graph has 2 to 512 links a centroid, not 1"),
        ("IVF64_NSG32,PQ8", "not of the IVF family"),
        ("IVF0,PQ8", "not of the IVF family"),
        ("LSH", "not of the IVF family: use auto, Flat"),
        ("HNSW32", "not of the IVF family"),
        ("", "not of the IVF family"),
        ("ivf64,flat", "not of the IVF family"),
        ("IVF64", "not of the IVF family"),
    ],
)
def test_kinds_that_are_not_built_are_refused_with_the_reason_on_one_line(key: str, reason: str) -> None:
    with pytest.raises(UsageError) as raised:
        IndexKey.parse(key)
    assert f"--index-key {key}" in str(raised.value)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.sampled_from(["Flat", "IVF,Flat", "IVF64,PQ8", "OPQ16_64,IVF1024,PQ16", "IVF8_HNSW32,SQ8", "IVF9,PQ8x4"]))
def test_a_key_reads_back_as_faiss_reads_it(key: str) -> None:
    parsed = IndexKey.parse(key).with_lists(32)
    assert IndexKey.parse(str(parsed)) == parsed
