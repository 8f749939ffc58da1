"""Digests of what was digested before there were roots that are made of a root are what they were."""

from dataclasses import asdict, replace

from transforms.derivation import Derivation, RootPart
from transforms.digests import digest
from transforms.ready_range import VectorRange
from transforms.records import EncoderSettings, IndexSettings, Partition, Request, Source

REQUEST = Request((Source("images", "file:///p"),), EncoderSettings("demo", "f" * 64, 4, ("image",)), IndexSettings())


def test_a_request_without_a_derivation_has_the_digest_of_before() -> None:
    before = asdict(REQUEST)
    del before["sources"][0]["derivation"], before["sources"][0]["image_bytes"]
    assert digest(before) == digest(REQUEST)
    source = replace(REQUEST.sources[0], kind="root", derivation=Derivation("augment", 1, "seal"))
    other = replace(REQUEST, sources=(source,))
    alpha = replace(REQUEST, sources=(replace(source, derivation=Derivation("augment", 1, "seal", alpha=1.0)),))
    assert len({digest(one) for one in (REQUEST, other, alpha)}) == 3


def test_ready_embeddings_with_vectors_and_metadata_alone_have_the_digests_of_before() -> None:
    ready = VectorRange("file:///a.npy", "npy", 0, 9, "stat:1", metadata="file:///m.parquet")
    partition = Partition(3, 1, (), 9, 9, ready)
    source = Source("vectors", "file:///a.npy", metadata="file:///m.parquet")
    later = ("text_uri", "text_version", "uri_column", "image_base", "image_was")
    before, source_before = asdict(partition), asdict(source)
    for name in later:
        del before["ready"][name]
    for name in ("text_vectors", *later[2:]):
        del source_before[name]
    assert digest(before) == digest(partition)
    assert digest(source_before) == digest(source)
    pairs = replace(partition, ready=replace(ready, text_uri="file:///b.npy", text_version="stat:2"))
    named = replace(partition, ready=replace(ready, uri_column="url"))
    assert len({digest(one) for one in (partition, pairs, named)}) == 3


def test_a_partition_of_items_has_the_digest_of_before() -> None:
    partition = Partition(3, 1, (), 5, 6)
    before = asdict(partition)
    del before["root_parts"]
    assert digest(before) == digest(partition)
    parts = (RootPart((1, 0, 0), shard=2, wanted=(1, 0, 0)),)
    assert digest(replace(partition, root_parts=parts)) != digest(partition)
