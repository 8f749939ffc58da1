"""Answers many queries as one Beam graph, and writes their results as a parquet file.

Vectors, a query a row, of .npy or parquet (float16 or float32):

    pixdex batch-search --root ./vectors --queries queries.npy --output results.parquet -k 10
    pixdex batch-search --root ./vectors --queries queries.parquet --vector-column embedding --output results.parquet

Texts, or pictures, that a column of a CSV holds; or texts, one a line:

    pixdex batch-search --root ./photos --queries questions.csv --text-column question --output results.parquet
    pixdex batch-search --root ./photos --queries pictures.csv --image-column file --output results.parquet
    pixdex batch-search --root ./photos --queries questions.txt --output results.parquet --workers 4

On Flink, and on Dataflow, where root, queries and output are what every worker reaches:

    pixdex batch-search --root s3://b/photos --queries s3://b/q.npy --output s3://b/results.parquet \\
        --runner FlinkRunner --flink_master localhost:8081 --flink_version 1.19 --environment_type EXTERNAL \\
        --environment_config localhost:50000
    pixdex batch-search --root gs://b/photos --queries gs://b/q.npy --output gs://b/results.parquet \\
        --runner DataflowRunner --project P --region R --temp_location gs://b/tmp --sdk_container_image IMAGE

Of an index on an object store that is larger than --slice-bytes no worker copies all: it is scanned in slices of its
lists, each by the workers that take it, for the queries of all parts; whoever answers a part then has what all slices
found for it, and ranks that. Only for what must look further (many more results than the lists that are probed hold,
--expand) does a worker copy the whole. What slices find takes 12 bytes a row in the folder beside the output: at most
some 100 rows for each query and slice that has one of its lists.

The queries are cut into parts, of at most 8,192 vectors or 1,024 texts or pictures, which workers answer beside each
other, as pixdex search would but for last bits of scores. Each part is committed in a folder beside the output (its
name, digits of what is asked, and .unfinished), so that the same command goes on after it was stopped, with the
generation that it began with; of a command that you do not run again, remove the folder. The output appears when it is
whole, and the folder goes. An output that holds the results of the same command and generation is left as it is,
another is refused.

With --min-score auto each worker calibrates by the same sample of stored vectors, as pixdex search does, and all come
to the same scores.

The output has a row for each result: query int64 (the row of the query, from 0), rank int32 (from 1), score float, id
int64, key string, and the columns of --columns; ordered by query and rank. A query that is empty, cannot be read, or
has no direction has no results, and is counted.

The last line on stdout is one JSON object: {"queries", "results", "output", "seconds", "unanswered", "generation"}.
"""

import sys
from collections.abc import Sequence
from typing import Final

from pipelines.running.start import read
from pipelines.terminal import console, process
from pipelines.terminal.queries import BATCH

OPTIONS: Final = BATCH


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: batch_search(arguments))


def batch_search(argv: Sequence[str]) -> int:
    """Parses, answers what is not answered yet, and reports."""
    line = read("batch-search", __doc__, argv, OPTIONS)
    from pipelines.running import batch  # noqa: PLC0415 - imports Beam, and --help needs none

    return batch.answer(line)


if __name__ == "__main__":
    process.run(main)
