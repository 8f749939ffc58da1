"""Searches an index with nothing but faiss and numpy, mapped; prints what it finds as JSON.

/path/of/faiss/python search_stock.py INDEX QUERIES.npy K
"""

import json
import sys

import faiss
import numpy as np


def main() -> None:
    file, queries, k = sys.argv[1:]
    index = faiss.read_index(file, faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    scores, ids = index.search(np.load(queries), int(k))
    found = {"version": faiss.__version__, "ntotal": index.ntotal, "scores": scores.tolist(), "ids": ids.tolist()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
