"""Says how much searches of a root find, and what that costs: recall, judgements, labels.

Of pictures and captions of the root itself; or of a file of queries, as batch-search takes it:

    pixdex evaluate --root ./photos --output ./evaluation
    pixdex evaluate --root ./vectors --queries queries.npy
    pixdex evaluate --root ./photos --queries questions.csv --text-column question --nprobe 8 --nprobe 64

Against judgements, a CSV of query, key and relevance; and of labels, a column of the rows, by votes of k neighbours:

    pixdex evaluate --root ./shop --judgements judgements.csv -k 20
    pixdex evaluate --root ./messages --label-column label -k 5

On Flink, and on Dataflow, where root and --work are what every worker reaches:

    pixdex evaluate --root s3://b/photos --work s3://b/work --runner FlinkRunner --flink_master localhost:8081 \\
        --flink_version 1.19 --environment_type EXTERNAL --environment_config localhost:50000
    pixdex evaluate --root gs://b/photos --work gs://b/work --runner DataflowRunner --project P --region R \\
        --temp_location gs://b/tmp --sdk_container_image IMAGE

Exact neighbours are found by products with every vector, as a Beam graph: each worker looks through some shards, and
what they find is joined. It is kept in a folder of its own (--work), so that the same command goes on after it was
stopped, and asks again in seconds. Then the queries are searched on this machine at several settings, all at once and
one by one.

Without --queries, 1,000 pictures of the root are asked for pictures, and 1,000 of its texts for pictures (or texts,
where there are none). A row that is asked is left out of its own results; on real sets such rows find what queries find
that are not in the root, but for a point or two. Give --queries where you have them.

For each kind of queries, nprobe and shortlist the table has: codes that a query scans, recall@k with its 95 %
interval, the share of queries that reach .5 and .9, the recall that the worst 5 % stay below, and milliseconds of one
search, the median and the 99th percentile. With --judgements: CG, DCG, nDCG, precision and MRR of the first k
results, and MAP of the first 100, as searches go by default. With --label-column: a fifth of the rows that have a
label, 1,000 at most, are held out, and each is given the label that most of its k nearest others have; with a
confusion table.

--output takes evaluation.json with all of it, and plots (PNG) of recall over codes and milliseconds, and over
queries.

The last line on stdout is one JSON object: {"generation", "queries", "k", "curve": [{"modality", "nprobe",
"shortlist", "codes", "recall", "ci95", "robust50", "robust90", "p5", "p50_ms", "p99_ms", …}], "ndcg", "map", "mrr",
"accuracy"}; what was not asked for is null.
"""

import sys
from collections.abc import Sequence
from typing import Final

from pipelines.running.start import read
from pipelines.terminal import console, process
from pipelines.terminal.flags import Flag, Group, positive, whole
from pipelines.terminal.options import DEVICE, ENCODER_OF_ROOT, ROOT, TRUST
from pipelines.terminal.queries import COLUMNS_OF_QUERIES, PROOF, QUERY_FILE

OPTIONS: Final = (
    ROOT,
    Group(
        "EvaluateOptions",
        "What is asked, and how",
        (
            QUERY_FILE,
            *COLUMNS_OF_QUERIES,
            Flag("--num-queries", "N", "of each kind, drawn from the root (default 1000)", positive, default=1000),
            Flag("--judgements", "FILE.csv", "columns query, key and relevance (1 where there is none)"),
            Flag("--label-column", "NAME", "column of the rows whose labels are voted on"),
            Flag("-k", None, "results that are looked at (default 10)", positive, default=10),
            Flag("--nprobe", "N", "lists probed; repeatable (default: powers of two)", positive, action="append"),
            Flag(
                "--shortlist",
                "N",
                "rows ranked by stored vectors; again for several (default: 0 and 100, where they are stored)",
                whole,
                action="append",
            ),
            Flag(
                "--modality",
                None,
                "what may be found (as of search)",
                choices=("image", "text", "keyword", "any"),
            ),
            Flag("--output", "DIR", "folder for evaluation.json and plots"),
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
    return console.run(lambda: evaluate(arguments))


def evaluate(argv: Sequence[str]) -> int:
    """Parses, finds what is not found yet, measures, and reports."""
    line = read("evaluate", __doc__, argv, OPTIONS)
    from pipelines.running import evaluation  # noqa: PLC0415 - imports Beam, and --help needs none

    return evaluation.evaluate(line)


if __name__ == "__main__":
    process.run(main)
