import json
import pickle
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small_models import on_the_hub, siglip_folder
from transforms import demo
from transforms.demo.drawing import draw, sample_scenes
from transforms.encoders import CleansTexts, Encoder, HasEarlier, load, open_clip_encoder
from transforms.encoders.device import choose_device
from transforms.encoders.weights import check_checkpoint
from transforms.errors import UsageError
from transforms.interpreter import WORKER_NUMBER

WEIGHTS = Path(demo.__file__).parent / "weights.safetensors"
MODEL = "pixdex-demo"
DEMO = f"open_clip:{MODEL}@{WEIGHTS}"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load(DEMO, device="cpu")


@pytest.fixture(scope="module")
def pictures() -> list[PIL.Image.Image]:
    rng = np.random.default_rng(0)
    return [draw(scene, rng) for scene in sample_scenes(16, rng)]


def test_the_demo_encoder_opens_offline_and_says_what_it_is(encoder: Encoder) -> None:
    assert encoder.dim == 64
    assert encoder.modalities == {"image", "text"}
    assert encoder.device == "cpu"
    assert len(bytes.fromhex(encoder.fingerprint)) == 32


def test_vectors_are_float32_of_the_stated_dimension(encoder: Encoder, pictures: list[PIL.Image.Image]) -> None:
    pixels = np.stack([encoder.preprocess(picture) for picture in pictures])
    assert pixels.dtype == np.float32
    for vectors, count in (
        (encoder.encode_images(pixels), 16),
        (encoder.encode_texts(["a red circle", ""]), 2),
        (encoder.encode_images(pixels[:0]), 0),
        (encoder.encode_texts([]), 0),
    ):
        assert vectors.shape == (count, encoder.dim)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()


def test_the_vector_of_a_slot_does_not_depend_on_the_other_slots(
    encoder: Encoder, pictures: list[PIL.Image.Image]
) -> None:
    pixels = np.stack([encoder.preprocess(picture) for picture in pictures])
    texts = ["a red circle", "two small blue squares", "something else altogether"]
    whole, whole_texts = encoder.encode_images(pixels), encoder.encode_texts(texts)
    for slot in range(len(pixels)):
        alone = np.zeros_like(pixels)
        alone[slot] = pixels[slot]
        np.testing.assert_array_equal(encoder.encode_images(alone)[slot], whole[slot])
    for slot, text in enumerate(texts):
        padded = ["" for _ in texts]
        padded[slot] = text
        np.testing.assert_array_equal(encoder.encode_texts(padded)[slot], whole_texts[slot])


def test_equal_pictures_get_equal_vectors_and_others_get_others(encoder: Encoder) -> None:
    rng = np.random.default_rng(1)
    noise = [PIL.Image.fromarray(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)) for _ in range(3)]
    pixels = np.stack([encoder.preprocess(picture) for picture in (*noise, noise[0].copy())])
    vectors = encoder.encode_images(pixels)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    assert len(np.unique(vectors, axis=0)) == 3


def test_unknown_words_still_tell_texts_apart(encoder: Encoder) -> None:
    vectors = encoder.encode_texts(["grilled aubergine", "mountain railway", "grilled aubergine"])
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])


def test_read_only_pixels_are_encoded_without_a_warning(
    encoder: Encoder, pictures: list[PIL.Image.Image], recwarn: pytest.WarningsRecorder
) -> None:
    pixels = np.stack([encoder.preprocess(picture) for picture in pictures])
    pixels.setflags(write=False)
    encoder.encode_images(pixels)
    assert not recwarn.list


def test_preprocessing_in_many_threads_gives_the_same_pixels(encoder: Encoder, pictures: list[PIL.Image.Image]) -> None:
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(encoder.preprocess, pictures * 4))
    np.testing.assert_array_equal(np.stack(threaded), np.stack([encoder.preprocess(p) for p in pictures] * 4))


def test_preprocessing_of_before_gives_the_values_of_open_clips_own_transform(encoder: Encoder) -> None:
    assert isinstance(encoder, HasEarlier)
    earlier = encoder.earlier()
    _, _, transform = open_clip.create_model_and_transforms(MODEL)
    rng = np.random.default_rng(2)
    for height, width in ((64, 64), (65, 200), (300, 90), (7, 3)):
        picture = PIL.Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        np.testing.assert_array_equal(earlier.preprocess(picture), transform(picture).numpy())


def test_half_precision_keeps_the_fingerprint_and_nearly_the_vectors(
    encoder: Encoder, pictures: list[PIL.Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_clip_encoder, "inference_dtype", lambda device: torch.bfloat16)
    half = load(DEMO, device="cpu")
    pixels, texts = np.stack([half.preprocess(picture) for picture in pictures]), ["a red circle", "two stars"]
    assert half.fingerprint == encoder.fingerprint
    for exact, rounded in (
        (encoder.encode_images(pixels), half.encode_images(pixels)),
        (encoder.encode_texts(texts), half.encode_texts(texts)),
    ):
        assert rounded.dtype == np.float32
        assert not np.array_equal(exact, rounded)
        cosines = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
        assert (cosines > 0.995).all()


def test_the_fingerprint_is_of_the_weights_and_not_of_their_container(encoder: Encoder, tmp_path: Path) -> None:
    state = load_file(WEIGHTS)
    single = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(single, tmp_path / "single.safetensors")
    torch.save(state, tmp_path / "plain.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "run.pt"
    )
    torch.save(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    for name in ("single.safetensors", "plain.pt", "run.pt", "legacy.bin"):
        assert load(f"open_clip:{MODEL}@{tmp_path / name}", device="cpu").fingerprint == encoder.fingerprint


def test_one_changed_weight_changes_the_fingerprint(encoder: Encoder, tmp_path: Path) -> None:
    state = load_file(WEIGHTS)
    state["token_embedding.weight"][0, 0] += 0.5
    save_file(state, tmp_path / "other.safetensors")
    other = load(f"open_clip:{MODEL}@{tmp_path / 'other.safetensors'}", device="cpu")
    assert other.fingerprint != encoder.fingerprint


def test_another_preprocessing_changes_the_fingerprint(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    build = open_clip.create_model_and_transforms

    def build_with_other_mean(*arguments: object, **options: object) -> object:
        return build(*arguments, **options, image_mean=(0.5, 0.5, 0.5))

    monkeypatch.setattr(open_clip, "create_model_and_transforms", build_with_other_mean)
    assert load(DEMO, device="cpu").fingerprint != encoder.fingerprint


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("open_clip:ViT-B32/openai", "did you mean ViT-B-32"),
        ("open_clip:vit-b-32/openai", "did you mean ViT-B-32"),
        ("open_clip:qqqqqq/openai", "open_clip has no model 'qqqqqq'"),
        ("open_clip:ViT-B-32/laion2b", "laion2b_s34b_b79k"),
        (f"open_clip:{MODEL}/openai", "none are published"),
        ("open_clip:ViT-B-32@/no/such/file.pt", "does not exist"),
        ("open_clip:ViT-B-32@/", "is not a file"),
        (f"open_clip:ViT-B-32@{WEIGHTS}", "does not open as ViT-B-32"),
    ],
)
def test_a_model_or_weights_that_are_not_there_are_refused_in_one_line(spec: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(spec, device="cpu")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["broken.safetensors", "broken.pt", "cut.safetensors", "cut.pt", "empty.pt", "text.txt"]
)
def test_a_broken_checkpoint_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    content = {"broken": random.Random(0).randbytes(1000), "empty": b"", "text": b"hello"}
    if path.stem == "cut":
        whole = tmp_path / f"whole{path.suffix}"
        tensors = load_file(WEIGHTS)
        if path.suffix == ".pt":
            torch.save(tensors, whole)
        else:
            save_file(tensors, whole)
        content["cut"] = whole.read_bytes()[:-5000]
    path.write_bytes(content[path.stem])
    with pytest.raises(UsageError) as refused:
        load(f"open_clip:{MODEL}@{path}", device="cpu")
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bytes_that_are_no_checkpoint_are_refused_whatever_they_begin_with(tmp_path: Path) -> None:
    """As opcodes of a pickle, they make torch raise IndexError, KeyError, struct.error and others."""
    path = tmp_path / "broken.pt"
    for first in range(256):
        path.write_bytes(bytes([first]) + random.Random(first).randbytes(200))
        with pytest.raises(UsageError, match=r"broken\.pt"):
            check_checkpoint(path)


def test_a_checkpoint_that_would_run_code_is_refused_and_its_code_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.mkdir, (tmp_path / "was-run",)

    torch.save({"weight": torch.zeros(1), "payload": Payload()}, tmp_path / "zip.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Payload(), protocol=2))
    for name in ("zip.pt", "pickle.pt"):
        with pytest.raises(UsageError, match="cannot be read"):
            load(f"open_clip:{MODEL}@{tmp_path / name}", device="cpu")
    assert not (tmp_path / "was-run").exists()


def test_weights_that_cannot_be_downloaded_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise OSError("Name or service not known\nand more")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(
        UsageError,
        match="cannot download the weights 'openai' of ViT-B-32: OSError: Name or service not known and more",
    ):
        load("open_clip:ViT-B-32/openai", device="cpu")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "CPU", ""])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(device: str) -> None:
    with pytest.raises(UsageError, match=r"choose auto or one of cpu"):
        load("demo", device=device)


def test_auto_takes_a_device_of_this_machine() -> None:
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert load("demo", device="auto").device == best


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a SigLIP model with open_clip's own tokenizer, which needs no package."""
    return siglip_folder(tmp_path_factory.mktemp("siglip") / "model", tokens=False)


def test_a_folder_of_open_clips_layout_opens_with_its_own_preprocessing(folder: Path) -> None:
    siglip = load(f"open_clip:local-dir:{folder}", device="cpu")
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    rng = np.random.default_rng(0)
    for height, width in ((160, 160), (500, 375), (90, 300), (1200, 700)):
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        picture = coarse.resize((width, height), PIL.Image.Resampling.BICUBIC)
        pixels, own = siglip.preprocess(picture), transform(picture)
        vector = siglip.encode_images(pixels[None])[0]
        with torch.inference_mode():
            own_vector = model.eval().encode_image(own[None])[0].numpy()
        for one, other in ((pixels.ravel(), own.numpy().ravel()), (vector, own_vector)):
            assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.9999
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a red circle"])
    with torch.inference_mode():
        own_text = model.encode_text(tokens).numpy()
    np.testing.assert_allclose(siglip.encode_texts(["a red circle"]), own_text, atol=1e-5)


def test_a_name_of_the_hub_opens_what_was_fetched(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    on_the_hub(folder, tmp_path / "cache", "some/siglip")
    fetched = load("open_clip:hf-hub:some/siglip", device="cpu")
    assert fetched.fingerprint == load(f"open_clip:local-dir:{folder}", device="cpu").fingerprint
    with pytest.raises(UsageError, match="cannot fetch other/siglip from Hugging Face's hub"):
        load("open_clip:hf-hub:other/siglip", device="cpu")


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("open_clip_config.json", "{", "describes no model"),
        ("open_clip_config.json", None, r"has no open_clip_config\.json"),
        ("open_clip_model.safetensors", None, "has no weights"),
        ("open_clip_model.safetensors", "cut", "cannot be read"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused_in_one_line(
    folder: Path, tmp_path: Path, file: str, text: str | None, says: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / file).unlink()
    if text is not None:
        (copy / file).write_text(text)
    with pytest.raises(UsageError, match=says) as refused:
        load(f"open_clip:local-dir:{copy}", device="cpu")
    assert "\n" not in str(refused.value)


def test_a_folder_that_asks_for_its_own_code_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="code of a model is never run"):
        load(f"open_clip:local-dir:{copy}", device="cpu")


def test_a_tokenizer_of_hugging_face_is_taken_from_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra st: pip install -e '.[st]'")
    siglip = siglip_folder(tmp_path / "siglip")
    encoder = load(f"open_clip:local-dir:{siglip}", device="cpu")
    assert isinstance(encoder, CleansTexts)
    assert encoder.are_blank(["...", "a"]) == [True, False]  # SigLIP's cleaning drops punctuation
    vectors = encoder.encode_texts(["A red circle!", "a red circle", "a blue square"])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[1], vectors[2])
    tokens = siglip / "tokenizer.json"
    tokens.write_text(tokens.read_text().replace('"circle"', '"sphere"'))
    assert load(f"open_clip:local-dir:{siglip}", device="cpu").fingerprint != encoder.fingerprint
    tokens.unlink()
    with pytest.raises(UsageError, match="has no tokenizer"):
        load(f"open_clip:local-dir:{siglip}", device="cpu")


@pytest.mark.parametrize(
    ("model", "mean", "mode"),
    [("ViT-B-16-SigLIP", 0.5, "squash"), ("ViT-B-32", 0.48145466, "shortest"), ("ViT-H-14", 0.48145466, "shortest")],
)
def test_a_file_of_weights_is_prepared_for_as_all_published_ones_of_its_model(
    model: str, mean: float, mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, object] = {}

    def build(*_: object, **options: object) -> object:
        asked.update(options)
        raise RuntimeError("not to be built: it is large")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", build)
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda *_, **__: None)
    shutil.copy(WEIGHTS, tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match="does not open as"):
        load(f"open_clip:{model}@{tmp_path / 'weights.safetensors'}", device="cpu")
    prepared = open_clip.transform.merge_preprocess_dict(
        open_clip.transform.PreprocessCfg(),
        {name.removeprefix("image_"): value for name, value in asked.items() if name.startswith("image_")},
    )
    assert (prepared["mean"][0], prepared["resize_mode"]) == (mean, mode)


@pytest.mark.parametrize(
    ("asked", "number", "chosen"),
    [
        ("auto", None, "cuda"),
        ("auto", "0", "cuda:0"),
        ("cuda", "1", "cuda:1"),
        ("auto", "5", "cuda:1"),
        ("cuda:2", "0", "cuda:2"),
        ("cpu", "1", "cpu"),
    ],
)
def test_workers_of_one_machine_take_its_gpus_in_turn(
    asked: str, number: str | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv(WORKER_NUMBER, raising=False)
    if number is not None:
        monkeypatch.setenv(WORKER_NUMBER, number)
    assert str(choose_device(asked)) == chosen
