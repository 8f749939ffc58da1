"""Opens an encoder by its spec, and says in one line what is wrong with a spec that opens nothing.

| spec                         | opens                                                                              |
|------------------------------|------------------------------------------------------------------------------------|
| `demo`                       | the small encoder shipped with pixdex: coloured shapes, offline                    |
| `open_clip:MODEL/PRETRAINED` | open_clip's model with the weights of that tag, downloaded once                    |
| `open_clip:MODEL@CHECKPOINT` | open_clip's model with the weights of a local file (.safetensors, .pt, .pth, .bin) |
| `open_clip:hf-hub:ORG/NAME`  | a model that Hugging Face's hub has in open_clip's layout, downloaded once         |
| `open_clip:local-dir:FOLDER` | the same of a local folder, with its `open_clip_config.json`                       |
| `timm:MODEL[@CHECKPOINT]`    | timm's model, pictures only, with its published weights or a local file's          |
| `timm:hf-hub:ORG/NAME`       | a model that the hub has in timm's layout, downloaded once                         |
| `timm:local-dir:FOLDER`      | the same of a local folder, with its `config.json`                                 |
| `st:ORG/NAME`                | a model of sentence-transformers, texts only, that the hub has, downloaded once    |
| `st:FOLDER`                  | the same of a local folder, whose path begins with `/`, `./`, `../` or `~`         |
| `module:Class`               | your own `Encoder`, constructed without arguments                                  |

torch is imported only when a model of a library is opened, and the demo is one: one in numpy starts in no time.
"""

import difflib
import importlib
import os
import re
from typing import Final, cast

from transforms.encoders import hub
from transforms.encoders.encoder import Encoder
from transforms.encoders.library_errors import one_line
from transforms.errors import UsageError

_FORMS = "demo, open_clip:MODEL/PRETRAINED, open_clip:MODEL@CHECKPOINT, timm:MODEL, st:MODEL or module:Class"
_EXAMPLE = "open_clip:ViT-B-32/laion2b_s34b_b79k"
_OPEN_CLIP = "open_clip"
_TIMM = "timm"
_ST = "st"
_KINDS = {
    "demo": "demo",
    _OPEN_CLIP: _EXAMPLE,
    _TIMM: "timm:resnet50",
    _ST: "st:sentence-transformers/all-MiniLM-L6-v2",
}
"""What a spec begins with, and an example of it."""
_HUB: Final = "hf-hub:"
_FOLDER: Final = "local-dir:"
_METHODS = {"image": ("preprocess", "encode_images"), "text": ("encode_texts",)}


def load(spec: str, *, device: str = "auto") -> Encoder:
    """Opens the encoder that `spec` names, on `device` (auto, cpu, cuda, cuda:N or mps); the module lists the specs.

    Raises UsageError, one line with the way out, for anything that cannot be opened as asked: no other model, no other
    weights and no other device are ever taken instead. Cost: seconds and the weights in memory; open it once a process.
    """
    spec = absolute_spec(spec)
    if spec == "demo":
        from transforms.encoders.demo_encoder import open_demo  # noqa: PLC0415 - imports torch

        return open_demo(device)
    kind, _, rest = spec.partition(":")
    if kind == _OPEN_CLIP:
        return _load_open_clip(spec, rest, device)
    if kind == _TIMM:
        return _load_timm(spec, rest, device)
    if kind == _ST:
        return _load_st(spec, rest, device)
    if is_class_of_ones_own(spec):
        return _load_own(spec, kind, rest, device)
    raise UsageError(f"unknown encoder {spec!r}: {_suggestion(kind, rest)}an encoder is {_FORMS}")


def is_class_of_ones_own(spec: str) -> bool:
    """Tells whether a spec is `module:Class`, whose module is imported to open it.

    >>> [is_class_of_ones_own(spec) for spec in ("my.module:Encoder", "demo", "timm:resnet50", "open-clip:ViT")]
    [True, False, False, False]
    """
    kind = spec.partition(":")[0]
    named = re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", spec) is not None
    return named and kind not in _KINDS and not _nearest_kind(kind)


def absolute_spec(spec: str) -> str:
    """Returns a spec that opens the same from any folder: paths made absolute, all else unchanged.

    >>> absolute_spec("timm:resnet18@/weights/../r18.pt"), absolute_spec("open_clip:ViT-B-32/openai")
    ('timm:resnet18@/r18.pt', 'open_clip:ViT-B-32/openai')
    >>> absolute_spec("st:/models/../minilm"), absolute_spec("open_clip:local-dir:/a//b"), absolute_spec("st:a/b")
    ('st:/minilm', 'open_clip:local-dir:/a/b', 'st:a/b')
    """
    kind, _, rest = spec.partition(":")
    if kind == _ST:
        return f"{kind}:{_absolute(rest)}" if hub.is_path(rest) else spec
    if kind in (_OPEN_CLIP, _TIMM) and rest.startswith(_FOLDER) and rest != _FOLDER:
        return f"{kind}:{_FOLDER}{_absolute(rest.removeprefix(_FOLDER))}"
    if rest.startswith(_HUB):
        return spec
    model, separator, checkpoint = _parts(rest)
    if kind not in (_OPEN_CLIP, _TIMM) or separator != "@" or not checkpoint:
        return spec
    return f"{kind}:{model}@{_absolute(checkpoint)}"


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - links stay


def _parts(rest: str) -> tuple[str, str, str]:
    """The model, the separator `/` or `@`, and the weights after it."""
    model, separator, weights = re.fullmatch(r"([^/@]*)([/@]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]  # matches any text
    return model, separator, weights


def _folder_or_hub(rest: str) -> str:
    """What stands after `hf-hub:` or `local-dir:`; nothing if the spec begins with neither."""
    return next((rest.removeprefix(schema) for schema in (_HUB, _FOLDER) if rest.startswith(schema)), "")


def _load_open_clip(spec: str, rest: str, device: str) -> Encoder:
    if place := _folder_or_hub(rest):
        from transforms.encoders import open_clip_encoder  # noqa: PLC0415 - imports torch

        prefix, config = f"{_OPEN_CLIP}:{_FOLDER}", open_clip_encoder.CONFIG
        folder = hub.open_folder(place, spec, prefix=prefix, must_hold=config, weights=open_clip_encoder.WEIGHTS)
        return open_clip_encoder.open_folder(folder, device)
    model, separator, weights = _parts(rest)
    if not model or not weights:
        raise UsageError(
            f"encoder {spec!r} names no {'weights' if model else 'model'}: write {_EXAMPLE}, "
            "or open_clip:MODEL@CHECKPOINT for a file"
        )
    from transforms.encoders.open_clip_encoder import open_checkpoint, open_pretrained  # noqa: PLC0415 - imports torch

    return open_checkpoint(model, weights, device) if separator == "@" else open_pretrained(model, weights, device)


def _load_timm(spec: str, rest: str, device: str) -> Encoder:
    if place := _folder_or_hub(rest):
        from transforms.encoders import timm_encoder  # noqa: PLC0415 - imports torch

        prefix, config = f"{_TIMM}:{_FOLDER}", timm_encoder.CONFIG
        folder = hub.open_folder(place, spec, prefix=prefix, must_hold=config, weights=timm_encoder.WEIGHTS)
        return timm_encoder.open_folder(folder, device)
    model, separator, checkpoint = rest.partition("@")
    if not model or (separator and not checkpoint):
        raise UsageError(
            f"encoder {spec!r} names no {'checkpoint' if model else 'model'}: write timm:MODEL[@CHECKPOINT]"
        )
    from transforms.encoders.timm_encoder import open_timm  # noqa: PLC0415 - imports torch

    return open_timm(model, checkpoint, device)


def _load_st(spec: str, place: str, device: str) -> Encoder:
    try:
        from transforms.encoders import sentence_encoder  # noqa: PLC0415 - imports torch
    except ImportError as error:
        raise UsageError(f"encoder {spec!r} needs: pip install 'pixdex[st]' ({one_line(error)})") from error
    folder = hub.open_folder(
        place, spec, prefix=f"{_ST}:", must_hold=sentence_encoder.MODULES, weights=sentence_encoder.WEIGHTS
    )
    return sentence_encoder.open_sentence_encoder(folder, device)


def _load_own(spec: str, module: str, name: str, device: str) -> Encoder:
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # whatever the user's module raises is reported, not only ImportError
        raise UsageError(
            f"encoder {spec!r}: cannot import {module}: {one_line(error)}: install it, or put its folder on PYTHONPATH"
        ) from error
    constructor = getattr(imported, name, None)
    if not callable(constructor):
        known = [other for other, value in vars(imported).items() if isinstance(value, type)]
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise UsageError(
            f"encoder {spec!r}: {module} has no class {name}: {_did_you_mean(nearest) or 'check its spelling'}"
        )
    try:
        encoder = constructor()
    except Exception as error:  # likewise
        raise UsageError(
            f"encoder {spec!r}: {name}() failed: {one_line(error)}: its constructor must work without arguments"
        ) from error
    problem = _problem(encoder)
    if problem:
        raise UsageError(f"encoder {spec!r} {problem}: transforms.encoders.Encoder says what an encoder has")
    if device not in ("auto", encoder.device):
        raise UsageError(
            f"encoder {spec!r} computes on {encoder.device!r}, not on {device!r} as asked: leave the device at 'auto', "
            "or let the class choose it"
        )
    return cast(Encoder, encoder)


def _problem(encoder: object) -> str:
    """What keeps the object from being an encoder, or nothing."""
    modalities = getattr(encoder, "modalities", None)
    if not isinstance(modalities, frozenset) or not modalities or modalities - set(_METHODS):
        return f"has modalities {modalities!r}, not a frozenset of 'image' and 'text'"
    dim = getattr(encoder, "dim", None)
    if not isinstance(dim, int) or dim < 1:
        return f"has dim {dim!r}, not a positive int"
    missing = [name for name in ("fingerprint", "device") if not isinstance(getattr(encoder, name, None), str)]
    missing += [
        method
        for modality in sorted(modalities)
        for method in _METHODS[modality]
        if not callable(getattr(encoder, method, None))
    ]
    return f"lacks {', '.join(missing)}" if missing else ""


def _nearest_kind(kind: str) -> list[str]:
    """The kind of spec that a spelling such as `openclip` or `Demo` means: it must not be taken for a module's name."""
    plain = kind.strip().lower().replace("-", "_")
    return [known for known in _KINDS if plain.replace("_", "") == known.replace("_", "") and kind != known]


def _suggestion(kind: str, rest: str) -> str:
    nearest = _nearest_kind(kind) or difflib.get_close_matches(kind.lower(), _KINDS, n=1, cutoff=0.6)
    if not nearest:
        return ""
    (known,) = nearest
    return f"did you mean '{known}:{rest}'? " if rest and known != "demo" else f"did you mean '{_KINDS[known]}'? "


def _did_you_mean(names: list[str]) -> str:
    return f"did you mean {' or '.join(names)}?" if names else ""
