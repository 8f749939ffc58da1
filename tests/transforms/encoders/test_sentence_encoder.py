import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from pipelines import build, evaluate, search
from tests.small_models import WORDS, changed, on_the_hub, sentence_model
from transforms.encoders import CleansTexts, Encoder, load
from transforms.errors import UsageError

sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="needs the extra st: pip install -e '.[st]'"
)
huggingface_hub = pytest.importorskip("huggingface_hub")

TEXTS = [
    "a red circle",
    "",
    "two cats " * 30,
    "star",
    "a blue square and three cats on the sofa",
    "https://example.com/cats.jpg",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_model(tmp_path_factory.mktemp("sentences") / "model")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load(f"st:{folder}", device="cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the hub, which cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products: NDArray[np.float32] = (one * other).sum(1) / lengths
    return products


def test_vectors_are_those_of_sentence_transformers(folder: Path, encoder: Encoder) -> None:
    own = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    vectors = encoder.encode_texts(TEXTS)
    assert (encoder.dim, encoder.modalities, encoder.device) == (24, frozenset({"text"}), "cpu")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, own, atol=1e-6)
    assert encoder.encode_texts([]).shape == (0, 24)


@pytest.mark.parametrize("slots", [6, 64])
def test_the_vector_of_a_slot_does_not_depend_on_the_other_slots(encoder: Encoder, slots: int) -> None:
    texts = [" ".join(WORDS[(number * 7 + step) % 13] for step in range(1 + number % 19)) for number in range(slots)]
    whole = encoder.encode_texts(texts)
    for slot in range(0, slots, 5):
        alone = ["" for _ in texts]
        alone[slot] = texts[slot]
        np.testing.assert_array_equal(encoder.encode_texts(alone)[slot], whole[slot])


def test_texts_of_which_the_tokenizer_leaves_nothing_are_blank(encoder: Encoder) -> None:
    assert isinstance(encoder, CleansTexts)
    assert encoder.are_blank(["a", "\u200b", "…", "\x00 \x07"]) == [False, True, False, True]


def test_half_precision_keeps_the_fingerprint_and_nearly_the_vectors(
    folder: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.encoders.sentence_encoder.inference_dtype", lambda device: torch.bfloat16)
    half = load(f"st:{folder}", device="cpu")
    assert half.fingerprint == encoder.fingerprint
    assert not np.array_equal(half.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    assert (cosines(half.encode_texts(TEXTS), encoder.encode_texts(TEXTS)) > 0.999).all()


def test_the_fingerprint_is_of_weights_tokenizer_pooling_and_prompt(
    folder: Path, encoder: Encoder, tmp_path: Path
) -> None:
    weight = changed(folder, tmp_path / "weight", "embeddings.word_embeddings.weight")
    dense = changed(folder, tmp_path / "dense" / "model", "linear.weight", "2_Dense/model.safetensors")
    tokens, pooling, prompt = (shutil.copytree(folder, tmp_path / name) for name in ("tokens", "pooling", "prompt"))
    file = tokens / "tokenizer.json"
    file.write_text(file.read_text().replace('"circle"', '"sphere"'))
    (pooling / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 32, "pooling_mode": "cls"}')
    config = json.loads((prompt / "config_sentence_transformers.json").read_text())
    config |= {"prompts": {"passage": "star "}, "default_prompt_name": "passage"}
    (prompt / "config_sentence_transformers.json").write_text(json.dumps(config))
    others = [load(f"st:{each}", device="cpu") for each in (weight, dense, tokens, pooling, prompt)]
    assert len({encoder.fingerprint, *(each.fingerprint for each in others)}) == 6
    np.testing.assert_allclose(others[-1].encode_texts(["circle"]), encoder.encode_texts(["star circle"]), atol=1e-6)


def test_the_fingerprint_is_not_of_who_saved_the_model_or_in_what_container(
    folder: Path, encoder: Encoder, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "transformers_version": "4.40.0", "_name_or_path": "x"}))
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(tensors, copy / "pytorch_model.bin")
    (copy / "README.md").write_text("# A model")
    again = load(f"st:{copy}", device="cpu")
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))


def test_a_model_that_was_fetched_opens_by_its_name_and_offline(folder: Path, encoder: Encoder, cache: Path) -> None:
    on_the_hub(folder, cache, "some/model")
    assert load("st:some/model", device="cpu").fingerprint == encoder.fingerprint


def test_a_name_that_cannot_be_fetched_is_refused_in_one_line(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="cannot fetch some/model from Hugging Face's hub") as refused:
        load("st:some/model", device="cpu")
    assert "\n" not in str(refused.value)
    (tmp_path / "some" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"the folder that is here is written st:\./some/model"):
        load("st:some/model", device="cpu")


def test_a_module_that_is_not_of_the_library_is_refused_and_not_imported(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "own.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'was-run')!r}).touch()")
    modules = json.loads((copy / "modules.json").read_text())
    for kind in ("own.Module", "os.system", "sentence_transformers.util.Other"):
        modules[1]["type"] = kind
        (copy / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(UsageError, match=f"names the module {kind}: code of a model is never run"):
            load(f"st:{copy}", device="cpu")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("cut", "cannot be read"),
        ("lack", "lack 1 tensors of its model"),
        ("other", "does not open as a model of sentence-transformers"),
        ("modules", "is no list of modules"),
        ("outside", "is not in its folder"),
        ("no-modules", r"has no modules\.json"),
        ("tokens", "has no tokenizer"),
        ("adapter", "holds an adapter"),
        ("gone", "does not exist"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused_in_one_line(
    folder: Path, tmp_path: Path, damage: str, says: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = copy / "model.safetensors"
    tensors = load_file(weights)
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "lack":
        del tensors["encoder.layer.1.output.dense.weight"]
        save_file(tensors, weights, metadata={"format": "pt"})
    elif damage == "other":
        tensors["encoder.layer.1.output.dense.weight"] = torch.zeros(3, 3)
        save_file(tensors, weights, metadata={"format": "pt"})
    elif damage == "modules":
        (copy / "modules.json").write_text("{")
    elif damage == "outside":
        modules = json.loads((copy / "modules.json").read_text())
        modules[2]["path"] = "../2_Dense"
        (copy / "modules.json").write_text(json.dumps(modules))
    elif damage == "no-modules":
        (copy / "modules.json").unlink()
    elif damage == "tokens":
        (copy / "tokenizer.json").unlink()
    elif damage == "adapter":
        (copy / "adapter_config.json").write_text("{}")
    else:
        shutil.rmtree(copy)
    with pytest.raises(UsageError, match=says) as refused:
        load(f"st:{copy}", device="cpu")
    assert "\n" not in str(refused.value)


KINDS = st.sampled_from(
    ["sentence_transformers.models.Pooling", "sentence_transformers.models.Transformer", "os.system", "", "."]
)
PLACES = st.sampled_from(["", ".", "1_Pooling", "../x", "/etc", "\0", "a" * 300]) | st.text(max_size=5)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.fixed_dictionaries({"type": KINDS, "path": PLACES}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100)
@given(JSON)
def test_whatever_a_list_of_modules_says_is_an_error_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, said: object
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "modules.json").write_text(json.dumps(said))
    with pytest.raises(UsageError) as refused:
        load(f"st:{folder}", device="cpu")
    assert "\n" not in str(refused.value)


def test_texts_of_a_csv_are_built_searched_and_labelled(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"{word} {other}", word) for word in WORDS[1:] for other in WORDS[1:]]
    lines = ["text,label", *(f"{text},{label}" for text, label in rows), "\ufffd,blank"]
    (tmp_path / "texts.csv").write_text("\n".join(lines), encoding="utf-8")
    source = ("--csv", str(tmp_path / "texts.csv"), "--text-column", "text", "--no-progress")
    roots = [str(tmp_path / name) for name in ("one", "two")]
    for root in roots:
        assert build.main(["--root", root, *source, "--encoder", f"st:{folder}"]) == 0
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (made["embedded"], made["rejected"]) == (len(rows), 1)
    assert "BlankText" in json.dumps(made["reject_reasons"])
    shards = [sorted(path.name for path in Path(root).glob("embeddings/*/*")) for root in roots]
    assert shards[0] == shards[1], "names hold the hash of what is in them"
    assert search.main(["--root", roots[0], "circle star", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])["results"][0]
    assert (first["caption"], first["score"]) == ("circle star", pytest.approx(1, abs=2e-3))
    assert evaluate.main(["--root", roots[0], "--label-column", "label", "--no-progress"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["accuracy"] > 1 / 12


def test_there_are_no_pictures_in_its_space(encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="texts only"):
        encoder.encode_images(np.zeros((1, 3, 8, 8), np.float32))
