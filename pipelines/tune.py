"""Chooses how far searches go that keep a promise of recall, and has them go so by default.

    pixdex tune --root ./photos --target-recall .95
    pixdex tune --root ./photos --tail .9@95%                       # 95 % of the queries find .9 of theirs, and more
    pixdex tune --root ./photos --target-recall .95 --tail .9@95% -k 20
    pixdex tune --root ./vectors --target-recall .95 --queries queries.npy

On Flink, and on Dataflow, where root and --work are what every worker reaches:

    pixdex tune --root s3://b/photos --target-recall .95 --work s3://b/work --runner FlinkRunner \\
        --flink_master localhost:8081 --flink_version 1.19 --environment_type EXTERNAL \\
        --environment_config localhost:50000
    pixdex tune --root gs://b/photos --target-recall .95 --work gs://b/work --runner DataflowRunner --project P \\
        --region R --temp_location gs://b/tmp --sdk_container_image IMAGE

Pictures and texts of the root are asked for pictures (as of pixdex evaluate), apart, for texts need more lists than
pictures; or the queries of a file. One half of them is chosen by: of each shortlist the fewest lists that keep the
promise with a standard error to spare, and of these the cheapest. The other half confirms it.

Then queries may stop by themselves: how widely the rows of each list are spread, and in which directions, is kept
beside the trained index (a sidecar; the index stays what it is), and tells each query which lists are worth a probe. So
an easy query scans few codes, and a hard one many. That takes a third of a millisecond a query, and is chosen where it
saves more than that; --stop always where reading codes is what takes time, --stop never for a fixed number of lists.

What was chosen is stored in a new generation, which shares everything else, and is how a search goes that names neither
--nprobe nor --shortlist. A reindex keeps it while the trained index stays, and says when its canaries no longer find
what they found when it was tuned; a new training ends it. pixdex tune --root R --off goes back to how it was trained.

The last line on stdout is one JSON object: {"generation", "image": {"nprobe", "shortlist", "margin", "recall", "tail",
"codes"}, "text": {...}}; null is what was not asked, a root of keywords or a file of vectors has "keyword" or "vector".
"""

import sys
from collections.abc import Sequence
from typing import Final

from pipelines.running.start import read
from pipelines.terminal import console, process
from pipelines.terminal.flags import Flag, Group, positive, share, switch, tail
from pipelines.terminal.options import DEVICE, ENCODER_OF_ROOT, ROOT, TRUST
from pipelines.terminal.queries import COLUMNS_OF_QUERIES, PROOF, QUERY_FILE

OPTIONS: Final = (
    ROOT,
    Group(
        "TuneOptions",
        "What is promised, and of which queries",
        (
            Flag("--target-recall", "R", "recall@k on average, above 0 and up to 1", share),
            Flag("--tail", "R@P%", "a recall that so many of a hundred queries reach, as .9@95%%", tail),
            switch("--off", "go back to how searches go that were never tuned"),
            Flag(
                "--stop",
                None,
                "whether queries stop by themselves: auto (where that takes less time), always or never (default auto)",
                choices=("auto", "always", "never"),
                default="auto",
            ),
            QUERY_FILE,
            *COLUMNS_OF_QUERIES,
            Flag(
                "--num-queries",
                "N",
                "of each kind and half, from the root (default 1000)",
                positive,
                default=1000,
            ),
            Flag("-k", None, "results that recall is of (default 10)", positive, default=10),
            *PROOF,
        ),
    ),
    ENCODER_OF_ROOT,
    DEVICE,
    TRUST,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: tune(arguments))


def tune(argv: Sequence[str]) -> int:
    """Parses, finds exact neighbours, chooses, confirms, and publishes."""
    line = read("tune", __doc__, argv, OPTIONS)
    from pipelines.running import tuning  # noqa: PLC0415 - imports Beam, and --help needs none

    return tuning.tune_root(line)


if __name__ == "__main__":
    process.run(main)
