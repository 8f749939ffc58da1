"""A root that was made while pictures were preprocessed in another way goes on with that way."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.dataset
import pytest

from pipelines import build
from tests.end_to_end import reindexing
from transforms import encoders
from transforms.encoders import Encoder, HasEarlier
from transforms.generations import published
from transforms.queries.encode import QueryEncoder
from transforms.storage.store import Store
from transforms.tasks.embed.open_encoder import fingerprint_of


def draw(file: Path) -> None:
    rng = np.random.default_rng(len(file.name) + ord(file.stem[0]))
    PIL.Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize((400, 300)).save(file)


def fingerprint(root: Path) -> str:
    generation = published.current(Store.at(str(root)))
    assert generation is not None
    return generation.request.encoder.fingerprint


def test_build_and_reindex_of_a_root_of_before_keep_its_preprocessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures").mkdir()
    for name in "abc":
        draw(tmp_path / "pictures" / f"{name}.jpg")
    root = tmp_path / "root"
    words = ["--images", str(tmp_path / "pictures"), "--encoder", "demo", "--device", "cpu", "--index-key", "Flat"]
    today = encoders.load("demo", device="cpu")
    assert isinstance(today, HasEarlier)
    earlier: Encoder = today.earlier()
    with monkeypatch.context() as before:
        before.setattr(encoders, "load", lambda spec, device: earlier)
        assert build.main(["--root", str(root), *words]) == 0
    assert fingerprint(root) == fingerprint_of(earlier, "crop")

    assert build.main(["--root", str(root), *words]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["embedded"] == 0
    draw(tmp_path / "pictures" / "d.jpg")
    assert reindexing.run(root) == 0

    assert fingerprint(root) == fingerprint_of(earlier, "crop")
    generation = published.current(Store.at(str(root)))
    assert generation is not None
    rows = pyarrow.dataset.dataset(str(root / "embeddings")).to_table().sort_by("key")
    stored = np.stack(rows["embedding"].to_numpy())
    asked = QueryEncoder(generation.request).pictures([str(tmp_path / "pictures" / f"{name}.jpg") for name in "abcd"])
    np.testing.assert_allclose(stored, asked / np.linalg.norm(asked, axis=1, keepdims=True), atol=3e-4)
