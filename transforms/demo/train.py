"""Trains the demo encoder from nothing, on pictures it draws itself, and writes its weights.

    python -m transforms.demo.train --seed 0 --output transforms/demo/weights.safetensors

Six minutes on two free cores, 2 GB of memory, no GPU and no network; repeated on one machine it writes the same bytes.
A fifth of the colour-shape pairs, chosen by the seed, occurs in no training picture and in no training caption; the
last log line is precision@10 of text → picture search over fresh pictures, for those pairs apart
(`tests/benchmarks/demo_encoder.py` measures it with a larger gallery).

The architecture is `pixdex-demo.json`, an ordinary open_clip model. The objective ranks, for every caption of a batch,
each picture that the caption is true of above all pictures that it is false of: softmax over the negatives, one
positive at a time. Pictures that match by chance are never pushed away, as they would be by CLIP's pairwise loss.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from transforms.demo.captions import ATTRIBUTES, Caption, describe
from transforms.demo.drawing import Scene, draw, held_out_pairs, sample_scenes
from transforms.demo.scoring import UNSEEN_PAIR, measure

MODEL_CONFIG = Path(__file__).with_name("pixdex-demo.json")
_LOG = logging.getLogger(__name__)
_POOL = 24_000
_BATCH = 384
_PEAK_RATE = 3e-3
_NOISE_WORDS = 0.1  # share of captions that begin with a random token, so that unknown words do little harm
_FIRST_SPECIAL_TOKEN = 49_406


def train(seed: int, steps: int) -> torch.nn.Module:
    """Draws the training pictures and fits the model for `steps` batches of 384 pictures and captions."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 2])
    open_clip.add_model_config(MODEL_CONFIG)
    model, _, preprocess = open_clip.create_model_and_transforms(MODEL_CONFIG.stem)
    tokenize = open_clip.get_tokenizer(MODEL_CONFIG.stem)
    scenes = sample_scenes(_POOL, rng, without=held_out_pairs(seed))
    start = time.monotonic()
    pool = torch.stack([preprocess(draw(scene, rng)).half() for scene in scenes])
    _LOG.info("drew %d pictures in %.0f s", len(scenes), time.monotonic() - start)
    values = _attribute_values(scenes)
    model.visual.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(_parameter_groups(model), lr=_PEAK_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        chosen = rng.choice(len(scenes), _BATCH, replace=False)
        captions = [describe(scenes[at], rng) for at in chosen]
        tokens = _with_noise_words(tokenize([caption.text for caption in captions]), rng)
        pixels = pool[torch.from_numpy(chosen)].float().contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            pictures = model.encode_image(pixels)
        loss = ranking_loss(
            model.logit_scale.exp().clamp(max=60)
            * torch.nn.functional.normalize(model.encode_text(tokens), dim=-1)
            @ torch.nn.functional.normalize(pictures.float(), dim=-1).T,
            torch.from_numpy(_truth(captions, values[chosen])),
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step == steps - 1:
            seconds = time.monotonic() - start
            _LOG.info("step %d of %d, loss %.3f, %.0f s", step, steps, loss.item(), seconds)
    return cast(torch.nn.Module, model.eval())


def ranking_loss(scores: Tensor, truth: Tensor) -> Tensor:
    """(captions, pictures) scores and truth → mean over true pairs of -log P(that picture | it and all false ones)."""
    against = scores.masked_fill(truth, float("-inf")).logsumexp(dim=1, keepdim=True)
    losses = torch.nn.functional.softplus(against - scores) * truth
    return (losses.sum(dim=1) / truth.sum(dim=1).clamp(min=1)).mean()


def half_precision(model: torch.nn.Module) -> dict[str, Tensor]:
    """The model's state with floats rounded to float16: half the bytes, and the ranking does not change."""
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, writes the weights and logs how good they are."""
    parser = argparse.ArgumentParser(description="Train pixdex's demo encoder from nothing.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file to write")
    options = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s")
    _LOG.setLevel(logging.INFO)  # its own progress, not that of every library
    model = train(options.seed, options.steps)
    save_file(half_precision(model), options.output, metadata={"format": "pt"})
    from transforms.encoders import load  # noqa: PLC0415 - the encoder reads the weights this script writes

    encoder = load(f"open_clip:{MODEL_CONFIG.stem}@{options.output}", device="cpu")
    report = measure(encoder, held_out_pairs(options.seed), gallery=5_000)
    _LOG.info("precision@10: overall %s, never-seen pairs %s", report.overall, report.by_pair[UNSEEN_PAIR])
    return 0


def _attribute_values(scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """(n, 5) the index of each scene's value in its attribute's list."""
    return np.array(
        [[values.index(getattr(scene, name)) for name, values in ATTRIBUTES.items()] for scene in scenes],
        dtype=np.int64,
    )


def _truth(captions: Sequence[Caption], values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(captions, pictures) whether the caption is true of the picture."""
    truth = np.ones((len(captions), len(values)), dtype=np.bool_)
    for column, (name, known) in enumerate(ATTRIBUTES.items()):
        allows = np.array([[value in caption.allowed.get(name, known) for value in known] for caption in captions])
        truth &= allows[:, values[:, column]]
    return truth


def _with_noise_words(tokens: Tensor, rng: np.random.Generator) -> Tensor:
    noisy = torch.from_numpy(rng.uniform(size=len(tokens)) < _NOISE_WORDS)
    words = torch.from_numpy(rng.integers(_FIRST_SPECIAL_TOKEN, size=(len(tokens), 1)))
    shifted = torch.cat([tokens[:, :1], words, tokens[:, 1:-1]], dim=1)
    return torch.where(noisy[:, None], shifted, tokens)


def _parameter_groups(model: torch.nn.Module) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels only: not for gains, biases, positions, and words training never meets."""
    kept = [p for name, p in model.named_parameters() if p.ndim < 2 or "embedding" in name]
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and "embedding" not in name]
    return [{"params": kept, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.02}]


if __name__ == "__main__":
    sys.exit(main())
