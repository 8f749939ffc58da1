"""Reads vectors, and the metadata beside them, by embedding-reader; prints what came as JSON.

/path/of/embedding-reader/python read_embeddings.py FORMAT FOLDER [METADATA_FOLDER] COLUMN,…
"""

import json
import sys

from embedding_reader import EmbeddingReader  # type: ignore[import-not-found]  # it has an environment of its own


def main() -> None:
    form, folder, *beside, columns = sys.argv[1:]
    settings: dict[str, object] = {"metadata_folder": beside[0]} if beside else {}
    if columns:
        settings["meta_columns"] = columns.split(",")
    reader = EmbeddingReader(folder, file_format=form, **settings)
    sums, rows = [], []
    for vectors, metadata in reader(batch_size=37, show_progress=False):
        sums += vectors.sum(axis=1).tolist()
        rows += metadata.to_dict("records")
    print(json.dumps({"count": int(reader.count), "dim": int(reader.dimension), "sums": sums, "rows": rows}))


if __name__ == "__main__":
    main()
