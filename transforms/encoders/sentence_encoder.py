"""Encoders of sentence-transformers (sbert.net), which know texts and no pictures; an extra, `st`, installs it.

The library pads a batch to its longest text, so that a vector's last bits depend on the texts beside it. Here a text is
padded to a length that follows from itself alone, and stays in its slot: texts of one length are encoded in their
places of a group of slots, where the others of the group are filled with something short.

No code of a model is run: `modules.json` may name modules of sentence-transformers only, and weights are safetensors or
what torch reads by `weights_only`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
import torch
import transformers
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from transforms.encoders.blank import are_blank
from transforms.encoders.device import choose_device, inference, inference_dtype, to_array
from transforms.encoders.hub import tokenizer_digests
from transforms.encoders.library_errors import one_line
from transforms.encoders.weights import check_checkpoint, fingerprint, tensors_of
from transforms.errors import UsageError

MODULES: Final = "modules.json"
WEIGHTS: Final = ("*.safetensors", "*.bin")
_KNOWN: Final = frozenset({"Transformer", "StaticEmbedding", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout"})
_FILLER: Final = "a"
_SHORTEST: Final = 8
"""Tokens that a text is padded to at least; it is the next power of two otherwise, or the most that the model takes."""
_GROUP: Final = 32
"""Slots on the CPU that are encoded at once: one long text makes so many as long, and no more."""
_VOLATILE: Final = frozenset(
    {
        *(
            "_name_or_path",
            "name_or_path",
            "architectures",
            "dtype",
            "torch_dtype",
            "transformers_version",
            "use_cache",
        ),
        *("is_local", "local_files_only"),
    }
)
"""Keys of configurations that do not change a vector, but with who saved the model."""
_CONFIGURATIONS: Final = ("config.json", "sentence_*_config.json", "tokenizer_config.json")


class SentenceEncoder:
    """A model of sentence-transformers, ready for inference; its prompt is the default one of the model, if any."""

    modalities = frozenset({"text"})

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Opens the model of a folder, whose modules have been checked; the library's errors pass through."""
        model = SentenceTransformer(
            str(folder),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": torch.float32},
        )
        odd = set(model.modalities) - {"text", "message"}
        if odd:
            raise UsageError(f"{folder} is a model of {', '.join(sorted(odd))}, too: open it by open_clip or timm")
        self._model = model.eval().requires_grad_(False).to(device)
        self._device, self._dtype = device, inference_dtype(device)
        self._prompt = model.prompts.get(model.default_prompt_name or "") or None
        self.device = str(device)
        self.dtype = str(self._dtype).removeprefix("torch.")
        self.dim = int(self._forward([_FILLER], None).shape[1])
        self.fingerprint = _fingerprint(folder, self.dim, self._prompt)

    def parameters(self) -> dict[str, torch.Tensor]:
        """The weights by name."""
        return dict(self._model.named_parameters(remove_duplicate=False))

    def preprocess(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        """Raises UsageError: there are no pictures in this space."""
        raise UsageError("sentence-transformers know texts only: choose an open_clip encoder for pictures")

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raises UsageError: there are no pictures in this space."""
        raise UsageError("sentence-transformers know texts only: choose an open_clip encoder for pictures")

    def are_blank(self, texts: Sequence[str]) -> list[bool]:
        """Tells of each text whether the tokenizer leaves nothing of it."""
        return are_blank(texts, self._tokens)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """n texts → (n, dim) float32; what exceeds the longest text of the model is cut off at its end.

        Cost: for each group of slots, a pass for every length in it, and lengths are powers of two: no more than twice
        that of the longest, and that of short texts where all are short.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        size = len(texts) if self._device.type == "cuda" else _GROUP
        for start in range(0, len(texts), max(size, 1)):
            group = list(texts[start : start + size])
            lengths = self._lengths(group)
            for length in sorted(set(lengths)):
                mine = [slot for slot, of_slot in enumerate(lengths) if of_slot == length]
                slots = [text if lengths[slot] == length else _FILLER for slot, text in enumerate(group)]
                # Where nothing is padded, attention gets no mask, and a GPU another kernel: one more slot always is.
                vectors[[start + slot for slot in mine]] = self._forward([*slots, _FILLER], length)[mine]
        return vectors

    def _lengths(self, texts: list[str]) -> list[int]:
        """To how many tokens each text is padded; 0 for all where a model has no use for padding."""
        tokens = self._model.preprocess([*texts, _FILLER], prompt=self._prompt)
        if "attention_mask" not in tokens:
            return [0] * len(texts)
        most = self._model.max_seq_length or (1 << 30)
        counts = tokens["attention_mask"].sum(1).tolist()[:-1]
        return [min(max(_SHORTEST, 1 << (int(count) - 1).bit_length()), most) for count in counts]

    def _forward(self, texts: list[str], length: int | None) -> NDArray[np.float32]:
        padding = {"padding": "max_length", "max_length": length, "truncation": True}
        options: dict[str, Any] = {"processing_kwargs": {"text": padding}} if length else {}
        tokens = self._model.preprocess(texts, prompt=self._prompt, **options)
        on_device = {name: each.to(self._device) if torch.is_tensor(each) else each for name, each in tokens.items()}
        with inference(self._device, self._dtype):
            return to_array(self._model(on_device)["sentence_embedding"])

    def _tokens(self, texts: list[str]) -> torch.Tensor:
        tokenizer = self._model.tokenizer
        if hasattr(tokenizer, "encode_batch"):  # of a model without a transformer
            of_each = [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)]
        else:
            of_each = tokenizer(texts, truncation=True)["input_ids"]
        rows = [torch.tensor(each, dtype=torch.long) for each in of_each]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)


def open_sentence_encoder(folder: Path, device: str) -> SentenceEncoder:
    """The model of a folder as sentence-transformers saves it, with a `modules.json`.

    Raises UsageError if it would run code of its own, is broken, or is not one of texts.
    """
    chosen = choose_device(device)
    modules = _modules(folder)
    weights = [path for _, inside in modules for path in _weights(inside)]
    for path in weights:
        check_checkpoint(path)
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()  # it lists tensors that no vector depends on
    try:
        encoder = SentenceEncoder(folder, chosen)
    except UsageError:
        raise
    except Exception as error:  # three libraries, each with errors of its own
        raise UsageError(
            f"{folder} does not open as a model of sentence-transformers: {one_line(error)}: copy its folder anew"
        ) from error
    missing = _missing(encoder.parameters(), {name for path in weights for name, _ in tensors_of(path)})
    if missing:
        raise UsageError(
            f"the weights in {folder} lack {len(missing)} tensors of its model, {missing[0]!r} is one: copy it anew"
        )
    return encoder


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """The kind of each module and its folder. Raises UsageError if one is none of the library's, or unknown here."""
    try:
        listed = json.loads((folder / MODULES).read_text())
        named = [(str(each["type"]), str(each["path"])) for each in listed]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / MODULES} is no list of modules: {one_line(error)}: copy the model anew") from error
    for kind, path in named:
        if not kind.startswith("sentence_transformers.") or kind.rpartition(".")[2] not in _KNOWN:
            raise UsageError(
                f"{folder / MODULES} names the module {kind}: code of a model is never run, and known modules are "
                f"{', '.join(sorted(_KNOWN))}"
            )
        if Path(path).is_absolute() or ".." in Path(path).parts or "\0" in path:
            raise UsageError(f"{folder / MODULES} names {path!r}, which is not in its folder: copy the model anew")
        if kind.endswith((".Transformer", ".StaticEmbedding")) and not tokenizer_digests(folder / path):
            raise UsageError(f"{folder / path} has no tokenizer (tokenizer.json and its configuration): copy it anew")
    if (folder / "adapter_config.json").exists():
        raise UsageError(f"{folder} holds an adapter and not a whole model: merge it into its base model and save that")
    return [(kind.rpartition(".")[2], folder / path) for kind, path in named]


def _weights(folder: Path) -> list[Path]:
    """The files of weights of a module, as the library takes them; none for a module without."""
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def _missing(parameters: dict[str, torch.Tensor], stored: set[str]) -> list[str]:
    """Parameters that no file has, which are random then; but for the pooler, which no vector depends on.

    A model for another task has its layers under one more name (`bert.encoder…`), and those of before 2020 call the
    weights of a normalisation gamma and beta.
    """
    plain = {name.removesuffix(".gamma") + ".weight" if name.endswith(".gamma") else name for name in stored}
    plain |= {name.removesuffix(".beta") + ".bias" for name in stored if name.endswith(".beta")}
    ends = {name.split(".", number)[-1] for name in plain for number in range(4) if name.count(".") >= number}
    loaded = {name for name in parameters if any(name.split(".", number)[-1] in ends for number in range(1, 4))}
    there = {parameters[name].data_ptr() for name in loaded}  # one tensor under two names is stored under one
    return [
        name
        for name, tensor in parameters.items()
        if name not in loaded and tensor.data_ptr() not in there and ".pooler." not in name
    ]


def _fingerprint(folder: Path, dim: int, prompt: str | None) -> str:
    """Of the files and not of what a library made of them, so that another version of it means the same model."""
    modules = _modules(folder)
    description = {
        "format": 1,
        "library": "sentence-transformers",
        "dim": dim,
        "prompt": prompt or "",
        "modules": [(kind, _described(inside)) for kind, inside in modules],
    }
    tensors = (
        (f"{number}.{name}", tensor)
        for number, (_, inside) in enumerate(modules)
        for path in _weights(inside)
        for name, tensor in tensors_of(path)
    )
    return fingerprint(tensors, description)


def _described(folder: Path) -> dict[str, object]:
    described: dict[str, object] = {}
    for pattern in _CONFIGURATIONS:
        for path in sorted(folder.glob(pattern)):
            kept = json.loads(path.read_text())
            described[path.name] = {name: value for name, value in kept.items() if name not in _VOLATILE}
    if tokens := tokenizer_digests(folder):
        described["tokens"] = tokens
    return described
