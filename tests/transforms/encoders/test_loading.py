import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from transforms.encoders import absolute_spec, load
from transforms.errors import UsageError

HERE = __name__


class MeanColour:
    """A whole encoder in numpy: the mean colour of a picture."""

    dim = 3
    modalities = frozenset({"image"})
    fingerprint = hashlib.sha256(b"mean colour").hexdigest()
    device = "cpu"

    def preprocess(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        return np.asarray(image.resize((4, 4)), dtype=np.float32)

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(pixels.mean(axis=(1, 2)), dtype=np.float32)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise NotImplementedError


class NoFingerprint:
    dim = 3
    modalities = frozenset({"image", "text"})
    device = "cpu"

    def preprocess(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        return np.asarray(image, dtype=np.float32)

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return pixels


class Smell(MeanColour):
    modalities = frozenset({"smell"})


class Flat(MeanColour):
    dim = 0


class NeedsArgument(MeanColour):
    def __init__(self, size: int) -> None:
        self.size = size


def test_a_class_of_your_own_is_an_encoder() -> None:
    encoder = load(f"{HERE}:MeanColour")
    pixels = np.stack([encoder.preprocess(PIL.Image.new("RGB", (9, 5), (10, 20, 30)))])
    np.testing.assert_allclose(encoder.encode_images(pixels), [[10, 20, 30]])


def test_a_class_of_your_own_starts_without_torch(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import hashlib\n"
        "class Own:\n"
        "    dim, modalities, fingerprint, device = 2, frozenset({'text'}), hashlib.sha256(b'own').hexdigest(), 'cpu'\n"
        "    def encode_texts(self, texts): return [[0.0, 1.0] for _ in texts]\n"
    )
    code = "import sys; from transforms.encoders import load; load('own:Own'); sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": f"{Path(__file__).parents[3]}:{tmp_path}"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "an encoder is demo, open_clip:MODEL/PRETRAINED"),
        ("clip", "unknown encoder 'clip'"),
        ("Demo", "did you mean 'demo'?"),
        ("openclip:ViT-B-32/openai", "did you mean 'open_clip:ViT-B-32/openai'?"),
        ("open-clip:ViT-B-32", "did you mean 'open_clip:ViT-B-32'?"),
        ("Timm:resnet18", "did you mean 'timm:resnet18'?"),
        ("tim", "did you mean 'timm:resnet50'?"),
        ("open_clip", "names no model"),
        ("open_clip:", "names no model"),
        ("open_clip:ViT-B-32", "names no weights"),
        ("open_clip:ViT-B-32@", "names no weights"),
        ("a b:c", "unknown encoder 'a b:c'"),
        ("no_such_module:Class", "cannot import no_such_module"),
        (f"{HERE}:MeanColor", "did you mean MeanColour"),
        (f"{HERE}:HERE", "has no class HERE"),
        (f"{HERE}:NoFingerprint", "lacks fingerprint, encode_texts"),
        (f"{HERE}:Smell", "has modalities frozenset({'smell'})"),
        (f"{HERE}:Flat", "has dim 0"),
        (f"{HERE}:NeedsArgument", "without arguments"),
    ],
)
def test_a_spec_that_opens_nothing_is_refused_in_one_line(spec: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(spec)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_module_that_fails_while_it_is_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_encoder.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="cannot import broken_encoder: ZeroDivisionError"):
        load("broken_encoder:Class")


def test_a_class_that_computes_elsewhere_than_asked_is_refused() -> None:
    assert load(f"{HERE}:MeanColour", device="cpu").device == "cpu"
    with pytest.raises(UsageError, match=r"computes on 'cpu', not on 'cuda'"):
        load(f"{HERE}:MeanColour", device="cuda")


@pytest.mark.parametrize("kind", ["open_clip", "timm"])
def test_a_checkpoint_is_named_the_same_from_any_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/houses/ada")

    assert absolute_spec(f"{kind}:M@w@2/a.pt") == f"{kind}:M@{tmp_path}/w@2/a.pt"
    assert absolute_spec(f"{kind}:M@~/a.pt") == f"{kind}:M@/houses/ada/a.pt"
    assert absolute_spec(f"{kind}:M@/x/../a.pt") == f"{kind}:M@/a.pt"


@pytest.mark.parametrize(
    "spec",
    [
        "demo",
        "",
        "open_clip:ViT-B-32/openai",
        "open_clip:M/tag@2",
        "open_clip:M@",
        "timm:M",
        "timm:M@",
        "own:C",
        "a:b@c",
    ],
)
def test_a_spec_without_a_checkpoint_stays_as_it_is(spec: str) -> None:
    assert absolute_spec(spec) == spec


def test_a_checkpoint_in_the_home_folder_is_looked_for_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/houses/ada")
    with pytest.raises(UsageError, match=r"checkpoint /houses/ada/none\.pt does not exist"):
        load("open_clip:ViT-B-32@~/none.pt", device="cpu")
