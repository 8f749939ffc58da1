"""Scores an index by autofaiss; prints what it says as JSON.

/path/of/autofaiss/python score.py INDEX EMBEDDINGS_FOLDER
"""

import json
import logging
import sys

from autofaiss import score_index  # type: ignore[import-not-found]  # it has an environment of its own


def main() -> None:
    index, folder = sys.argv[1:]
    infos = score_index(index, folder, save_on_disk=False, current_memory_available="2G", verbose=logging.WARNING)
    print(json.dumps({name: float(value) for name, value in infos.items()}))


if __name__ == "__main__":
    main()
