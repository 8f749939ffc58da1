"""Embeds a folder of pictures with clip-retrieval, in its own environment; started by against_peers.py.

    /path/of/clip-retrieval/python clip_retrieval_child.py PICTURES MODEL WEIGHTS CONFIG|- CORES OUTPUT

Imports nothing of pixdex. `CONFIG` is a model of open_clip that it has not by itself. The weights are a file, since
nothing is downloaded; the rest is `clip_inference` as its documents call it, with a process of preprocessing a core. It
runs models in the mode that open_clip makes them in, of training: with batch norms, a vector would be that of a batch.
"""

import sys
from typing import Any

import open_clip
from clip_retrieval.clip_inference.main import main as clip_inference  # type: ignore[import-not-found]


def _evaluated(*words: Any, **options: Any) -> tuple[Any, ...]:
    model, *transforms = _create(*words, **options)
    return (model.eval(), *transforms)


_create, open_clip.create_model_and_transforms = open_clip.create_model_and_transforms, _evaluated


def main() -> None:
    pictures, model, weights, config, cores, output = sys.argv[1:]
    if config != "-":
        open_clip.add_model_config(config)
    clip_inference(
        input_dataset=pictures,
        output_folder=output,
        enable_text=False,
        enable_metadata=False,
        clip_model=f"open_clip:{model}/{weights}",
        num_prepro_workers=int(cores),
    )


if __name__ == "__main__":
    main()
