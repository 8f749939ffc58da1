from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from tests.small_models import on_the_hub, timm_folder
from transforms.encoders import load
from transforms.encoders.preprocessing import Preprocessing
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


def test_a_folder_of_timms_layout_opens_from_its_path_and_by_its_name_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = timm_folder(tmp_path / "model")
    on_the_hub(folder, tmp_path / "cache", "some/vit")
    local, fetched = (load(f"timm:{each}", device="cpu") for each in (f"local-dir:{folder}", "hf-hub:some/vit"))
    assert local.fingerprint == fetched.fingerprint
    named = load(f"timm:test_vit@{folder / 'model.safetensors'}", device="cpu")
    pixels = named.preprocess(PIL.Image.new("RGB", (200, 100), (200, 20, 20)))[None]
    np.testing.assert_array_equal(local.encode_images(pixels), named.encode_images(pixels))
    with pytest.raises(UsageError, match="cannot fetch other/vit from Hugging Face's hub"):
        load("timm:hf-hub:other/vit", device="cpu")


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("config.json", None, r"has no config\.json"),
        ("config.json", '{"architecture": "resnet18"}', "does not open as a model of timm"),
        ("model.safetensors", None, "has no weights"),
        ("model.safetensors", "cut", "cannot be read"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused_in_one_line(
    tmp_path: Path, file: str, text: str | None, says: str
) -> None:
    folder = timm_folder(tmp_path / "model")
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    with pytest.raises(UsageError, match=says) as refused:
        load(f"timm:local-dir:{folder}", device="cpu")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "side", "fraction"),
    [
        ("vit_small_patch14_dinov2", 518, 1.0),
        ("vit_small_patch16_dinov3", 256, 1.0),
        ("vit_small_patch16_224.dino", 224, 0.9),
        ("convnext_atto", 224, 0.875),
        ("convnextv2_atto", 224, 0.875),
        ("vit_base_patch16_siglip_224", 224, 0.9),
    ],
)
def test_pictures_of_known_families_are_prepared_as_timm_does(name: str, side: int, fraction: float) -> None:
    published = timm.get_pretrained_cfg(name)
    assert published is not None
    config = resolve_model_data_config({}, pretrained_cfg=published.to_dict())  # type: ignore[no-untyped-call]
    assert (config["input_size"], config["crop_pct"]) == ((3, side, side), fraction)
    own = create_transform(**config, is_training=False)
    fast = Preprocessing(own.transforms, is_fast=True)
    assert fast.is_fast
    rng = np.random.default_rng(0)
    for size in ((700, 900), (60, 400), (side, side)):
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        picture = coarse.resize(size, PIL.Image.Resampling.BICUBIC)
        ours, theirs = fast(picture).ravel(), own(picture).numpy().ravel()
        assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.9999
