"""What does HTTP add to a text query: one after the other, and eight at once?

    python -m tests.benchmarks.search.serve [--queries 300] --output FILE.json

Builds the root of the demo (1,500 drawn pictures, the demo encoder), serves it, and asks for texts that were not asked
before: over HTTP with one connection that stays, and in this process with the same code (`import pixdex`); both take
turns, each is warm, milliseconds. Then over eight connections at once, queries a second. Pictures are thumbnails of
320 pixels, the first time and again. About a minute on two cores, most of it the build.
"""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import pixdex
from tests.benchmarks.instruments import measuring, report

CONNECTIONS = 8
WARM = 20


def texts(count: int) -> list[str]:
    """Queries that differ: one after the other is encoded anew."""
    words = product(range(count), ("red", "blue", "green", "orange"), ("circle", "star", "heart", "square"))
    return [f"{number} {colour} {shape}s" for number, colour, shape in words][:count]


def milliseconds(ask: Callable[[str], object], queries: Sequence[str]) -> list[float]:
    took = []
    for query in queries:
        began = time.perf_counter()
        ask(query)
        took.append(1000 * (time.perf_counter() - began))
    return took


def percentiles(took: Sequence[float]) -> dict[str, float]:
    return {f"p{part}": round(float(np.percentile(took, part)), 2) for part in (50, 99)}


class Client:
    """One connection that stays open."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def search(self, text: str) -> list[dict[str, object]]:
        body = json.dumps({"text": text, "k": 10})
        self._connection.request("POST", "/api/search", body, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        read = answer.read()
        assert answer.status == 200, read
        results: list[dict[str, object]] = json.loads(read)["results"]
        return results

    def picture(self, id: object) -> bytes:
        self._connection.request("GET", f"/api/items/{id}/picture")
        return self._connection.getresponse().read()


def compare(url: str, root: Path, queries: Sequence[str]) -> dict[str, Any]:
    """Asks over HTTP and in this process, in turns, then several at once."""
    opened = pixdex.open(root)
    opened.search("warm")
    client = Client(url)
    for query in queries[:WARM]:
        assert client.search(f"warm {query}")[0]["id"] == opened.search(f"warm {query}")[0].id
    over_http, here = [], []
    for start in range(0, len(queries), 10):
        over_http += milliseconds(client.search, queries[start : start + 10])
        here += milliseconds(opened.search, queries[start : start + 10])
    ids = [hit.id for hit in opened.search("a red circle", k=100)]
    first = milliseconds(client.picture, ids)  # type: ignore[arg-type]  # numbers, which stand in an address as texts do
    again = milliseconds(client.picture, ids)  # type: ignore[arg-type]
    clients = [Client(url) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        parts = [[f"{text} again" for text in queries[place::CONNECTIONS]] for place in range(CONNECTIONS)]
        took = pool.map(lambda one, part: milliseconds(one.search, part), clients, parts)
        at_once = [each for some in took for each in some]
    seconds = time.perf_counter() - began
    return {
        "text over HTTP": percentiles(over_http),
        "text in process": percentiles(here),
        f"text over {CONNECTIONS} connections": percentiles(at_once),
        "picture": percentiles(first),
        "picture again": percentiles(again),
        "queries_a_second": round(len(at_once) / seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    own = parser.parse_args()
    found: dict[str, Any] = {"machine": measuring.machine()}
    with tempfile.TemporaryDirectory(prefix="serve-") as folder:
        python = [sys.executable, "-m", "pipelines"]
        measuring.run([*python, "demo", "--dir", f"{folder}/demo"], Path(folder) / "demo.log")
        root = Path(folder) / "demo" / "index"
        words = [*python, "serve", "--root", str(root), "--port", "0"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                url = json.loads(server.stdout.readline())["url"]
                found["milliseconds"] = compare(url, root, texts(own.queries))
            finally:
                server.terminate()
    report.write(own.output, found)
    rows = [[name, *took.values()] for name, took in found["milliseconds"].items() if isinstance(took, dict)]
    print(report.table(["milliseconds", "p50", "p99"], rows))
    print(f"\n{found['milliseconds']['queries_a_second']} queries a second over {CONNECTIONS} connections")


if __name__ == "__main__":
    main()
