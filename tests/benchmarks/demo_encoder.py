"""How well the shipped demo encoder finds pictures by text, above all of colour-shape pairs that it has never seen.

    python tests/benchmarks/demo_encoder.py [--gallery 20000] [--json FILE]

Draws a fresh gallery, searches it exactly with captions that name one to five attributes, and counts, among the first
ten pictures of each query, those that show everything named. One minute on two cores for 20,000 pictures.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from transforms.demo.drawing import held_out_pairs
from transforms.demo.scoring import TRAINING_SEED, Report, Score, measure
from transforms.encoders import load


def measure_demo(gallery: int, seed: int, encoder: str = "demo") -> Report:
    """Scores the encoder on the CPU, with the pairs that training the shipped weights left out."""
    return measure(load(encoder, device="cpu"), held_out_pairs(TRAINING_SEED), gallery=gallery, seed=seed)


def table(report: Report) -> str:
    rows: list[tuple[str, Score]] = [
        ("all queries", report.overall),
        ("the same in varied words", report.varied_words),
        *report.by_pair.items(),
        *(
            (f"{count} attribute{'s' * (count > 1)} named", score)
            for count, score in report.by_attributes_named.items()
        ),
    ]
    head = f"{'queries about':<32}{'queries':>8}{'precision@10':>14}"
    return "\n".join([head, *(f"{name:<32}{score.queries:>8}{score.precision_at_10:>14.3f}" for name, score in rows)])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", type=int, default=20_000, help="pictures to draw and search (default 20000)")
    parser.add_argument("--seed", type=int, default=1_000_003, help="of the gallery, not of the training")
    parser.add_argument("--encoder", default="demo", help="an encoder of the same pictures, to compare (default demo)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    options = parser.parse_args(argv)
    start = time.monotonic()
    report = measure_demo(options.gallery, options.seed, options.encoder)
    print(table(report))
    print(f"{options.gallery} pictures drawn, encoded and searched in {time.monotonic() - start:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
