"""Embeds a folder of pictures with Daft, in its own environment; started by against_peers.py.

    /path/of/daft/python daft_child.py PICTURES MODEL WEIGHTS CONFIG|- SIDE OUTPUT

Imports nothing of pixdex. Daft reads, decodes and resizes by its own expressions, outside of Python, which is its
fastest way; a class that holds the model encodes batches. It resizes otherwise than open_clip, so that vectors differ.
"""

import sys

import daft  # type: ignore[import-not-found]  # it has an environment of its own
import numpy as np
import open_clip
import torch
from daft import DataType, col


def main() -> None:
    pictures, model, weights, config, side, output = sys.argv[1:]
    if config != "-":
        open_clip.add_model_config(config)

    @daft.cls
    class Encode:
        def __init__(self) -> None:
            self._model = open_clip.create_model(model, pretrained=weights).eval()
            self._mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None]
            self._std = torch.tensor(open_clip.OPENAI_DATASET_STD)[:, None, None]

        @daft.method.batch(return_dtype=DataType.list(DataType.float32()), batch_size=64)  # type: ignore[untyped-decorator]
        def encode(self, images: daft.Series) -> list[list[float]]:
            pixels = torch.from_numpy(np.stack(images.to_pylist())).permute(0, 3, 1, 2).float() / 255
            with torch.inference_mode():
                vectors = self._model.encode_image((pixels - self._mean) / self._std)
            found: list[list[float]] = torch.nn.functional.normalize(vectors, dim=-1).numpy().tolist()
            return found

    files = daft.from_glob_path(f"{pictures}/*.jpg")
    images = files["path"].download().decode_image(mode="RGB").resize(int(side), int(side))
    table = files.with_column("image", images).with_column("embedding", Encode().encode(col("image")))
    table.select("path", "embedding").write_parquet(output)


if __name__ == "__main__":
    main()
