"""Ready embeddings whose encoder is named are searched by text and by picture, as those that pixdex made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pipelines import augment, batch_search, condense, evaluate, inspect, search, verify
from tests.encoders import TinyEncoder
from tests.end_to_end import reindexing
from tests.end_to_end.builds import Finished, generation_of, run_here
from tests.end_to_end.test_bad_usage import check_refused
from transforms.records import TABLES_VERSION

Capture = pytest.CaptureFixture[str]
ROWS = 90
TINY = ("--encoder", "tests.encoders:TinyEncoder")


def words(number: int) -> str:
    return f"words {number}"


def picture(number: int) -> PIL.Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    return PIL.Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures and texts, encoded as somebody else would."""
    encoder = TinyEncoder()
    images = encoder.encode_images(np.stack([encoder.preprocess(picture(number)) for number in range(ROWS)]))
    texts = encoder.encode_texts([words(number) for number in range(ROWS)])
    for name, vectors in (("img_emb", images), ("text_emb", texts)):
        (tmp_path / "out" / name).mkdir(parents=True)
        np.save(tmp_path / "out" / name / f"{name}_0.npy", vectors)
    return tmp_path / "out"


def build(capsys: Capture, root: Path, *argv: object) -> Finished:
    return run_here(capsys, "--root", root, "--index-key", "IVF4,Flat", "--no-progress", *argv)


def results_of(capsys: Capture, *argv: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert search.main([*map(str, argv), "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    return found


def test_a_root_that_knows_its_encoder_is_asked_with_texts_and_pictures(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    root = tmp_path / "root"
    done = run_here(capsys, "--root", root, "--index-key", "IVF4,Flat", "--vectors", folder, *TINY)
    assert done.code == 0, done.err
    assert f"ready embeddings, which workers will count, 16 dimensions, of encoder {TINY[1]}" in done.err
    generation = generation_of(root)
    encoder = generation.request.encoder
    assert (encoder.spec, encoder.dim, encoder.modalities) == (TINY[1], 16, ("image", "text"))
    assert generation.format_version == TABLES_VERSION
    assert build(capsys, root, "--vectors", folder, *TINY).said["embedded"] == 0

    key = f"file://{folder}/img_emb/img_emb_0.npy"
    (text,) = results_of(capsys, "--root", root, words(17), "--modality", "text", "-k", 1)
    assert (text["key"], text["modality"], round(text["score"], 3)) == (f"{key}#17", "text", 1)
    assert results_of(capsys, "--root", root, words(17), "-k", 1)[0]["modality"] == "image"
    picture(23).save(tmp_path / "query.png")
    (found,) = results_of(capsys, "--root", root, "--image", tmp_path / "query.png", "-k", 1)
    assert (found["key"], found["modality"], round(found["score"], 3)) == (f"{key}#23", "image", 1)
    (sure,) = results_of(capsys, "--root", root, words(17), "--modality", "text", "--min-score", "auto")
    assert sure["key"] == f"{key}#17"
    capsys.readouterr()
    assert inspect.main(["--root", str(root)]) == 0
    assert "tests.encoders:TinyEncoder, 16 dimensions, takes image and text" in capsys.readouterr().out


@pytest.mark.gate
def test_what_looks_at_a_root_sees_its_encoder(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "root"
    assert build(capsys, root, "--vectors", folder, *TINY).code == 0
    (tmp_path / "texts.csv").write_text("text\n" + "".join(f"{words(number)}\n" for number in range(ROWS)))
    queries = ["--root", str(root), "--queries", str(tmp_path / "texts.csv"), "--text-column", "text"]
    assert batch_search.main([*queries, "--modality", "text", "--output", str(tmp_path / "o.parquet"), "-k", "1"]) == 0
    assert evaluate.main(["--root", str(root), "--output", str(tmp_path / "evaluation"), *queries[2:]]) == 0
    assert reindexing.run(root) == 0
    for command, flags in ((augment, []), (condense, ["--rows", "40"])):
        name = command.__name__.rpartition(".")[2]
        assert command.main(["--root", str(root), "--to", str(tmp_path / name), "--no-progress", *flags]) == 0
        made = generation_of(tmp_path / name)
        assert made.request.encoder.spec == TINY[1] and made.request.encoder.precision == "full"
        assert results_of(capsys, "--root", tmp_path / name, words(3), "-k", 2)
        assert verify.main(["--root", str(tmp_path / name)]) == 0
    totals = generation_of(tmp_path / "augment").totals
    assert (totals.items, totals.images, totals.texts) == (ROWS, ROWS, ROWS)


@pytest.mark.gate
def test_another_encoder_is_another_request(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "root"
    assert build(capsys, root, "--vectors", folder).code == 0
    check_refused(
        build(capsys, root, "--vectors", folder, *TINY),
        f"ready embeddings of 16 dimensions, not ready embeddings of 16 dimensions and encoder {TINY[1]}",
    )
    capsys.readouterr()
    assert search.main(["--root", str(root), words(3)]) == 2
    assert "knows no encoder" in capsys.readouterr().err
    assert reindexing.run(root, *TINY) == 2


def test_an_encoder_of_another_dimension_is_refused_at_once(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    refused = build(capsys, tmp_path / "root", "--vectors", folder, "--encoder", "demo")
    check_refused(refused, "--encoder demo makes vectors of 64 components, those of --vectors have 16")
    assert not (tmp_path / "root" / "plans").exists()


@pytest.mark.parametrize("flags", [(), ("--no-normalize",)])
def test_queries_have_the_length_that_the_vectors_of_the_root_have(
    folder: Path, tmp_path: Path, capsys: Capture, flags: tuple[str, ...]
) -> None:
    root = tmp_path / "root"
    done = build(capsys, root, "--vectors", folder / "text_emb/*.npy", "--modality", "text", *TINY, *flags)
    assert done.code == 0, done.err
    (hit,) = results_of(capsys, "--root", root, words(5), "-k", 1, "--nprobe", 4)
    vectors = TinyEncoder().encode_texts([words(number) for number in range(ROWS)])
    if not flags:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = vectors @ vectors[5]
    assert hit["key"].endswith(f"#{int(np.argmax(scores))}")
    assert hit["score"] == pytest.approx(float(scores.max()), rel=1e-5)
