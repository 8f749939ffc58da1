"""The options that every comparison with a peer on a folder of vectors has."""

import argparse
from pathlib import Path


def parser_of(manual: str | None) -> argparse.ArgumentParser:
    """Returns a parser with these options; what is a benchmark's own is added by it."""
    parser = argparse.ArgumentParser(description=manual, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, required=True, help="folder with base.npy or base-*.npy, and query.npy")
    parser.add_argument("--index-key", required=True, help="the key of our index")
    parser.add_argument("--metric-type", choices=("ip", "l2"), default="ip", help="l2: lengths are kept")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each side, in turn (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of our training")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for indexes and exact search")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    return parser
