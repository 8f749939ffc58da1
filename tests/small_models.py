"""Folders of small models with random weights, in the layouts that libraries save and Hugging Face's hub has.

No weights can be downloaded where tests run: these show that models open, and say nothing of how good vectors are.
"""

import json
import shutil
from pathlib import Path

import open_clip
import timm
import torch
from safetensors.torch import load_file, save_file

WORDS = ["a", "red", "blue", "circle", "square", "star", "and", "two", "three", "cats", "on", "the", "sofa"]


def tokenizer(folder: Path) -> None:
    """Writes a tokenizer that knows a few words and letters."""
    from transformers import BertTokenizerFast  # noqa: PLC0415 - of the extra st

    folder.mkdir(parents=True, exist_ok=True)
    letters = [letter for each in "abcdefghijklmnopqrstuvwxyz" for letter in (each, f"##{each}")]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS[1:], *letters]
    BertTokenizerFast(vocab={word: number for number, word in enumerate(vocabulary)}).save_pretrained(folder)


def sentence_model(folder: Path, *, pooling: str = "mean", seed: int = 0) -> Path:
    """Saves a BERT of two layers with a dense one behind its pooling: 24 components, at most 32 tokens."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - of the extra st
    from sentence_transformers.base.modules import Dense, Normalize, Transformer  # noqa: PLC0415 - likewise
    from sentence_transformers.sentence_transformer.modules import Pooling  # noqa: PLC0415 - likewise
    from transformers import AutoTokenizer, BertConfig, BertModel  # noqa: PLC0415 - likewise

    base = folder.with_name(f"{folder.name}-base")
    tokenizer(base)
    torch.manual_seed(seed)
    shape = BertConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(base)),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    BertModel(shape).save_pretrained(base)
    modules = [Transformer(str(base)), Pooling(32, pooling_mode=pooling), Dense(32, 24), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    shutil.rmtree(base)
    return folder


def siglip_folder(folder: Path, *, tokens: bool = True) -> Path:
    """Saves a model of open_clip with SigLIP's preprocessing and, if it is wanted, a tokenizer of Hugging Face."""
    folder.mkdir(parents=True)
    text = {"context_length": 16, "vocab_size": 128, "width": 32, "heads": 2, "layers": 1, "pool_type": "last"}
    if tokens:
        tokenizer(folder)
        text |= {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP", "tokenizer_kwargs": {"clean": "canonicalize"}}
    else:
        text |= {"vocab_size": 49408}
    model = {
        "embed_dim": 64,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "none"},
        "text_cfg": text,
    }
    half = [0.5, 0.5, 0.5]
    sight = {"mean": half, "std": half, "interpolation": "bicubic", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": sight}))
    torch.manual_seed(0)
    drawn = open_clip.create_model(f"local-dir:{folder}", pretrained_image=False, pretrained_text=False)
    save_file(drawn.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def timm_folder(folder: Path) -> Path:
    """Saves timm's smallest vision transformer, which sees 160 pixels a side."""
    torch.manual_seed(0)
    timm.models.save_for_hf(timm.create_model("test_vit", pretrained=False), str(folder), safe_serialization=True)
    return folder


def changed(folder: Path, copy: Path, tensor: str, file: str = "model.safetensors") -> Path:
    """Copies a model with one value of a tensor changed."""
    shutil.copytree(folder, copy)
    tensors = load_file(copy / file)
    tensors[tensor].view(-1)[0] += 0.5
    save_file(tensors, copy / file, metadata={"format": "pt"})
    return copy


def on_the_hub(folder: Path, cache: Path, name: str) -> None:
    """Makes a folder one that was fetched from Hugging Face's hub before, under `name`, into the cache."""
    there, commit = cache / f"models--{name.replace('/', '--')}", "0" * 40
    (there / "refs").mkdir(parents=True)
    (there / "refs" / "main").write_text(commit)
    shutil.copytree(folder, there / "snapshots" / commit)
