"""What does a night cost on which a shop changes all its prices, and nothing else?

    python -m tests.benchmarks.nights.prices [--rows 20000] [--encoder demo] --output FILE.json

Draws so many pictures with a caption each, writes a CSV that names them, with a price, and builds an index of it; then
every price is written anew, and a reindex keeps all vectors. Seconds are from the start of a command to its exit. Some
minutes on two cores.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import Measured, say
from transforms.demo.corpus import write_corpus

LIMIT_RATIO = 0.3


def write_prices(rows: list[dict[str, str]], file: Path, factor: int) -> None:
    """Writes the CSV of the shop, its prices times a factor."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "key", "price"])
        writer.writeheader()
        writer.writerows({**row, "key": str(number), "price": str(factor * number)} for number, row in enumerate(rows))


def run(job: str, work: Path, *words: str) -> Measured:
    measured = measuring.run(
        [sys.executable, "-m", "pipelines", job, "--root", str(work / "root"), "--no-progress", *words],
        work / f"{job}.log",
    )
    say(f"{job}: {measured.seconds:.1f} s, {measured.last_json()['seconds']}")
    return measured


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--encoder", default="demo")
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="prices-") as temporary:
        work = Path(temporary)
        say("pictures")
        corpus = write_corpus(work / "shop", own.rows, 0)
        with corpus.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        shop = corpus.with_name("shop.csv")
        write_prices(rows, shop, 1)
        columns = ("--key-column", "key", "--image-column", "image", "--text-column", "description")
        source = ("--csv", str(shop), *columns)
        built = run("build", work, *source, "--encoder", own.encoder)
        write_prices(rows, shop, 2)
        night = run("reindex", work)
    last = night.last_json()
    found = {
        "machine": measuring.machine(),
        "rows": own.rows,
        "build_seconds": round(built.seconds, 1),
        "night_seconds": round(night.seconds, 1),
        "night_embed_seconds": last["seconds"].get("embed"),
        "changed": last["changed"],
        "carried": last["carried"],
        "ratio": report.ratio(night.seconds, built.seconds),
        "limit_ratio": LIMIT_RATIO,
    }
    report.write(own.output, found)
    print(report.table(list(found), [list(found.values())]))


if __name__ == "__main__":
    main()
