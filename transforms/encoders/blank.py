"""Texts of which a tokenizer leaves nothing: it would hand the model what it makes of no text at all."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

_SUSPECT: Final = re.compile(r"(?:[\W_]|&(?:amp;)?#?\w{1,31};?)*")
"""No letter and no digit but in references of HTML: all that a tokenizer might clean away, and not much else."""


def are_blank(texts: Sequence[str], tokenize: "Callable[[list[str]], torch.Tensor]") -> list[bool]:
    """Tells of each text whether its tokens are those of an empty one.

    Cost: a few microseconds a text; those without letters and digits are tokenized once more.
    """
    suspects = [place for place, text in enumerate(texts) if _SUSPECT.fullmatch(text)]
    blank = [False] * len(texts)
    if suspects:
        nothing, *tokens = tokenize(["", *(texts[place] for place in suspects)])
        for place, of_text in zip(suspects, tokens, strict=True):
            blank[place] = bool((of_text == nothing).all())
    return blank
