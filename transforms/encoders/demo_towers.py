"""The two halves of the shipped encoder, of torch's own layers: open_clip, which has them too, takes seconds to import.

Weights have the names that they have there. What sees pictures is put together for inference: each batch norm is folded
into the convolution before it, and the attention at the end asks for what is read of it only. So a batch takes half as
many calls, and for each of them a thread that encodes waits for the interpreter, while others decode.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import torch
from torch.nn import functional

_EPSILON: Final = 1e-5
"""What torch adds to the variance of a batch norm."""

WIDENED: Final = 32
"""Channels at the end of the residual network, for each of its width."""


class PictureTower(torch.nn.Module):
    """The half of a CLIP that sees pictures: a residual network that ends in attention (Radford et al. 2021, §2.3.1).

    Of open_clip's vectors those that it makes differ in their last bits.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], *, layers: Sequence[int], heads: int) -> None:
        """Makes it of weights.

        Args:
            tensors: by their names within `visual.`.
            layers: blocks of each of the four stages, all but the first of which halve the sides.
            heads: of the attention at the end.
        """
        super().__init__()
        self.stem = torch.nn.Sequential(
            *(_folded(tensors, f"conv{number}", f"bn{number}", stride=2 if number == 1 else 1) for number in (1, 2, 3))
        )
        self.blocks = torch.nn.Sequential(*_blocks(tensors, layers))
        self.pool = _AttentionPool(tensors, heads)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, side, side) → (n, dim)."""
        states = pixels.contiguous(memory_format=torch.channels_last)  # half the time of convolutions so narrow
        for convolution in self.stem:
            states = convolution(states).relu_()
        vectors: torch.Tensor = self.pool(self.blocks(functional.avg_pool2d(states, 2)))
        return vectors


class _Bottleneck(torch.nn.Module):
    """Three convolutions, beside which the input goes on, through a fourth where the shape changes."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], name: str, stride: int) -> None:
        super().__init__()
        self.first, self.second, self.third = (
            _folded(tensors, f"{name}.conv{number}", f"{name}.bn{number}") for number in (1, 2, 3)
        )
        beside = f"{name}.downsample"
        self.beside = _folded(tensors, f"{beside}.0", f"{beside}.1") if f"{beside}.0.weight" in tensors else None
        self.stride = stride

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(n, channels, side, side) → (n, other channels, side / stride, side / stride)."""
        inner = self.second(self.first(states).relu_()).relu_()
        if self.stride > 1:
            inner, states = functional.avg_pool2d(inner, self.stride), functional.avg_pool2d(states, self.stride)
        if self.beside is not None:
            states = self.beside(states)
        summed: torch.Tensor = self.third(inner)
        return summed.add_(states).relu_()


class _AttentionPool(torch.nn.Module):
    """Attention over all places and their mean, of which the mean alone asks."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], heads: int) -> None:
        super().__init__()
        self.places = _parameter(tensors["attnpool.positional_embedding"])
        self.asked, self.keys, self.values, self.out = (
            _linear(tensors, f"attnpool.{name}_proj") for name in ("q", "k", "v", "c")
        )
        self.heads = heads

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(n, channels, side, side) → (n, dim)."""
        places = states.flatten(2).transpose(1, 2)
        places = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1) + self.places
        pooled = functional.scaled_dot_product_attention(
            self._split(self.asked(places[:, :1])), self._split(self.keys(places)), self._split(self.values(places))
        )
        vectors: torch.Tensor = self.out(pooled.flatten(1))
        return vectors

    def _split(self, states: torch.Tensor) -> torch.Tensor:
        """(n, places, channels) → (n, heads, places, channels / heads)."""
        return states.reshape(*states.shape[:2], self.heads, -1).transpose(1, 2)


def _blocks(tensors: Mapping[str, torch.Tensor], layers: Sequence[int]) -> Iterator[_Bottleneck]:
    for stage, count in enumerate(layers, start=1):
        for number in range(count):
            yield _Bottleneck(tensors, f"layer{stage}.{number}", stride=2 if stage > 1 and number == 0 else 1)


def _folded(tensors: Mapping[str, torch.Tensor], name: str, norm: str, *, stride: int = 1) -> torch.nn.Conv2d:
    """A convolution and the batch norm behind it as one, which keeps the sides but for the stride."""
    weight = tensors[f"{name}.weight"]
    scale = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + _EPSILON).sqrt()
    made, into, size, _ = weight.shape
    convolution = torch.nn.Conv2d(into, made, size, stride=stride, padding=size // 2)
    convolution.weight = _parameter(weight * scale[:, None, None, None])
    convolution.bias = _parameter(tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale)
    return convolution


def _linear(tensors: Mapping[str, torch.Tensor], name: str) -> torch.nn.Linear:
    weight = tensors[f"{name}.weight"]
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = _parameter(weight), _parameter(tensors[f"{name}.bias"])
    return linear


def _parameter(values: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(values, requires_grad=False)


class TextTower(torch.nn.Module):
    """The text half of a CLIP: a causal transformer, read off at the last token (Radford et al. 2021, §2.4).

    Its parts have the names that open_clip's weights have.
    """

    def __init__(  # noqa: D107 - as the model's configuration names them
        self, dim: int, *, context_length: int, vocab_size: int, width: int, heads: int, layers: int
    ) -> None:
        super().__init__()
        self.token_embedding = torch.nn.Embedding(vocab_size, width)
        self.positional_embedding = torch.nn.Parameter(torch.empty(context_length, width))
        self.transformer = torch.nn.ModuleDict(
            {"resblocks": torch.nn.Sequential(*(_Block(width, heads, context_length) for _ in range(layers)))}
        )
        self.ln_final = torch.nn.LayerNorm(width)
        self.text_projection = torch.nn.Parameter(torch.empty(width, dim))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64 (n, context_length) → (n, dim)."""
        states = self.token_embedding(tokens) + self.positional_embedding
        states = self.ln_final(self.transformer["resblocks"](states))
        # The token that ends a text has the highest number.
        ends = states[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)]
        vectors: torch.Tensor = ends @ self.text_projection
        return vectors


class _Block(torch.nn.Module):
    """Attention to the tokens before, then a layer of four times the width; each behind a norm, and added."""

    mask: torch.Tensor

    def __init__(self, width: int, heads: int, context_length: int) -> None:
        super().__init__()
        self.ln_1 = torch.nn.LayerNorm(width)
        self.attn = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = torch.nn.LayerNorm(width)
        self.mlp = torch.nn.Sequential()
        self.mlp.add_module("c_fc", torch.nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", torch.nn.GELU())
        self.mlp.add_module("c_proj", torch.nn.Linear(4 * width, width))
        ahead = torch.full((context_length, context_length), float("-inf")).triu_(1)
        self.register_buffer("mask", ahead, persistent=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(n, tokens, width) → the same."""
        normed = self.ln_1(states)
        attended, _ = self.attn(normed, normed, normed, need_weights=False, attn_mask=self.mask.to(normed.dtype))
        states = states + attended
        added: torch.Tensor = states + self.mlp(self.ln_2(states))
        return added
