"""Answers the queries of a part, as one worker does it: the search, and the file of the results."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transforms.batch.opened import opened, threads
from transforms.batch.request import Batch, BatchRequest, PartMarker
from transforms.batch.slices import joined
from transforms.batch.vectors import vectors_of
from transforms.queries import null_results
from transforms.search.hits import Found
from transforms.search.rules import AUTO
from transforms.search.searcher import Searcher
from transforms.storage.arrow_numbers import array_of

KEY: Final = "key"


def answer_part(batch: Batch, number: int) -> None:
    """Answers a part and commits it, unless that is done.

    Cost: the vectors of a part are in memory, some 64 bytes for each row that is looked at, up to 4 Mi of them at a
    time, and the results. The generation is opened once a process, of an object store once a machine. For `min_score`
    `auto` each process calibrates once (`queries.null_results`): all come to the same cut-offs.

    Raises:
        UsageError: the root cannot be asked so.
        PixdexError: it is damaged or was made anew, or the queries have changed since they were planned.
    """
    if batch.marker(number) is not None:
        return
    request, part = batch.request, batch.plan.parts[number]
    with threads(batch.threads):
        open_ = opened(batch)
        of_part = vectors_of(batch, open_, number)
        searcher = joined(batch, open_, number, of_part.vectors)
        found = searcher.nearest(of_part.vectors, request.wanted)
        if request.wanted.rules.min_score == AUTO:
            kinds = [request.queries.modality] * len(of_part.vectors)
            own = null_results.cut_offs(open_.searcher, of_part.vectors, kinds, request.wanted.modality)
            found = found.cut(own, searcher.generation.trained.metric)
        table = _table(searcher, request, found, part.first + of_part.places)
    with batch.work.scratch() as scratch:
        file = scratch / "results.parquet"
        pq.write_table(table, file, compression="lz4", write_page_checksum=True)  # it is read once, and soon
        reference = batch.work.upload(file, "results", f"part-{number:08}")
    batch.commit_part(number, PartMarker(batch.part_digest(number), of_part.unanswered(part), reference))


def _table(searcher: Searcher, request: BatchRequest, found: Found, numbers: NDArray[np.int64]) -> pa.Table:
    """The results as rows; `numbers` are those of the queries that were answered."""
    known = searcher.table_of(found.ids, (KEY, *(name for name in request.columns if name != KEY)))
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "query": array_of(numbers[found.queries]),
        "rank": array_of(found.ranks.astype(np.int32)),
        "score": array_of(found.scores),
        "id": array_of(found.ids),
        KEY: known[KEY].cast(pa.string()),
    }
    others = {name: known[name] for name in request.columns if name not in columns}
    return pa.table(columns | others)
