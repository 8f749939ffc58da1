from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from safetensors.torch import save_file

from transforms.encoders import load
from transforms.errors import UsageError

MODEL = "mobilenetv3_small_050"  # small, and its vector is not as wide as its last map


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, with the classifier of a thousand classes that published ones have too."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "weights.safetensors"
    save_file(timm.create_model(MODEL, pretrained=False).state_dict(), path)
    return path


def test_a_timm_model_turns_pictures_into_vectors_slot_by_slot(checkpoint: Path) -> None:
    encoder = load(f"timm:{MODEL}@{checkpoint}", device="cpu")
    rng = np.random.default_rng(0)
    pictures = [PIL.Image.fromarray(rng.integers(0, 256, (250, 300, 3), dtype=np.uint8)) for _ in range(3)]
    pixels = np.stack([encoder.preprocess(picture) for picture in pictures])
    vectors = encoder.encode_images(pixels)
    assert encoder.modalities == {"image"}
    assert vectors.shape == (3, encoder.dim)
    alone = np.zeros_like(pixels)
    alone[1] = pixels[1]
    np.testing.assert_array_equal(encoder.encode_images(alone)[1], vectors[1])
    assert len(np.unique(vectors, axis=0)) == 3
    with pytest.raises(UsageError, match="pictures only"):
        encoder.encode_texts(["a red circle"])


def test_the_fingerprint_follows_the_weights_without_the_classifier(checkpoint: Path, tmp_path: Path) -> None:
    model = timm.create_model(MODEL, pretrained=False, num_classes=0, checkpoint_path="")
    timm.models.load_checkpoint(model, str(checkpoint), strict=False)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "bare.pt")
    first, bare = (load(f"timm:{MODEL}@{path}", device="cpu") for path in (checkpoint, tmp_path / "bare.pt"))
    assert first.fingerprint == bare.fingerprint


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("timm:", "names no model"),
        (f"timm:{MODEL}@", "names no checkpoint"),
        ("timm:resnet81", "did you mean resnet"),
        (f"timm:{MODEL}@/no/such.pt", "does not exist"),
        ("timm:resnet18@CHECKPOINT", "does not open as resnet18"),
        ("timm:mobilenetv3_small_075@CHECKPOINT", "does not open as mobilenetv3_small_075"),
    ],
)
def test_what_timm_cannot_open_is_refused_in_one_line(spec: str, says: str, checkpoint: Path) -> None:
    with pytest.raises(UsageError) as refused:
        load(spec.replace("CHECKPOINT", str(checkpoint)), device="cpu")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
