"""Generations: which one is current, which run comes next, and publishing one.

The highest number below `generations/` is the current generation. A run claims the next free number by creating its
request; a run that was abandoned keeps its number, and the shard numbers of its plan, for ever.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa

from transforms import layout, parquet_files
from transforms.errors import PixdexError
from transforms.index.list_format import ID_BYTES
from transforms.ready_table import READY
from transforms.records import (
    FileReference,
    Generation,
    ListsMarker,
    PieceMarker,
    Plan,
    Request,
    SegmentMarker,
    ShardMarker,
    Tables,
    Totals,
    TrainedIndex,
    digest,
)
from transforms.run import Run
from transforms.store import Store, sha256_of

SEGMENTS: Final = "segments:"
"""How the checksum of an index begins that lies on storage as segments."""

_SHARD_COUNTS = ("shard", "block", "items", "rejected", "rows", "images", "texts", "keywords")
_SHARDS = pa.schema(
    [
        *((name, pa.int64()) for name in _SHARD_COUNTS),
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("checksum", pa.string()),
        ("ready", READY),
    ]
)
_FILE = [("path", pa.string()), ("bytes", pa.int64()), ("checksum", pa.string())]
_BLOCKS = pa.schema(
    [
        *((name, pa.int64()) for name in ("block", "rows", "first_shard", "last_shard")),
        ("merged", pa.bool_()),
        *_FILE,
    ]
)
"""Shard indexes; those that are not `merged` are deltas, which a search scans beside the merged index."""
_TOMBSTONES = pa.schema([("folder", pa.int64()), ("rows", pa.int64()), *_FILE])
_KEYS = pa.schema(
    [
        *((name, pa.int64()) for name in ("bucket", "bits", "entries", "rejected", "images", "texts", "keywords")),
        *_FILE,
    ]
)
_SEGMENTS = pa.schema(
    [
        *((name, pa.int64()) for name in ("first_list", "last_list", "offset", "bytes")),
        ("path", pa.string()),
        ("checksum", pa.string()),
    ]
)
_REJECTS = pa.schema(
    [
        ("shard", pa.int64()),
        ("rejected", pa.int64()),
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("checksum", pa.string()),
    ]
)


def numbers(store: Store) -> list[int]:
    """Returns the numbers of the published generations, ascending."""
    names = (name.removesuffix(".json") for name in store.names(layout.GENERATIONS))
    return sorted(int(name) for name in names if name.isdigit())


def current(store: Store) -> Generation | None:
    """Returns the current generation, or None when nothing is published yet."""
    published = numbers(store)
    return store.read_record(layout.generation(published[-1]), Generation) if published else None


def runs(store: Store) -> list[int]:
    """Returns the numbers of all runs that were ever begun, ascending; a folder without a request is none."""
    found = sorted(int(name) for name in store.names(layout.PLANS) if name.isdigit())
    return [number for number in found if store.exists(layout.request(number))]


def unfinished(store: Store) -> Run | None:
    """Returns the run that is begun, not published and not abandoned; there is at most one."""
    published = set(numbers(store))
    open_runs = (Run(store, number) for number in runs(store) if number not in published)
    return next((run for run in open_runs if not _is_abandoned(run)), None)


def next_number(store: Store) -> int:
    """Returns the first generation number that no run has used."""
    return max([0, *numbers(store), *runs(store)]) + 1


def next_shard(store: Store) -> int:
    """Returns the first shard number that no plan, abandoned ones too, and no generation has used."""
    plans = (store.find_record(layout.plan(number), Plan) for number in runs(store))
    published = current(store)
    return max([published.next_shard if published else 0, *(plan.first_shard + plan.shards for plan in plans if plan)])


def begin(store: Store, request: Request) -> Run:
    """Commits a request under the next number, or adopts the same request that someone else commits at this moment.

    Raises:
        PixdexError: another request was committed first.
    """
    run = Run(store, next_number(store))
    stands = store.commit(layout.request(run.generation), request)
    # Whoever looked for the next number a moment later has the higher one: it gives way to the lower.
    first = unfinished(store) or run
    if first.generation < run.generation:
        abandon(run)
        run, stands = first, first.request
    if stands != request:
        raise PixdexError(f"another run has just begun on {store.url}: wait for it, then run again")
    return run


def abandon(run: Run) -> None:
    """Gives up an unfinished run: its numbers are burned, its files wait to be collected."""
    run.store.create(layout.abandoned(run.generation), b"{}\n")


def publish(run: Run) -> Generation:
    """Writes the tables of a finished run and creates its generation, the last step of all.

    Raises:
        PixdexError: the counts of shards, blocks and merged index do not agree.
    """
    store, plan, trained = run.store, run.plan, run.trained().trained
    shards = run.shards()
    blocks = run.markers("add", range(plan.blocks), ListsMarker)
    merged = _pieces(run, trained) if store.local is not None else _segments(run, trained)
    _check_whole(run, merged, shards, blocks)
    generation = Generation(
        generation=run.generation,
        request=run.request,
        request_digest=digest(run.request),
        totals=_totals(shards, len(blocks)),
        trained=trained,
        index=merged.index,
        tables=Tables(
            shards=_write(store, map(_shard_row, shards), _SHARDS),
            blocks=_write(store, map(_block_row, blocks), _LISTS),
            segments=_write(store, merged.segments, _SEGMENTS),
            rejects=_write(store, (_reject_row(marker) for marker in shards if marker.rejects), _REJECTS),
        ),
        next_shard=plan.first_shard + plan.shards,
    )
    return store.commit(layout.generation(run.generation), generation)


def merged_pieces(run: Run) -> list[PieceMarker]:
    """Reads the markers of a merged file, its head (number 0) and every range of lists, in order of offset."""
    return run.markers("merge", _merged_numbers(run), PieceMarker)


def merged_segments(run: Run) -> list[SegmentMarker]:
    """Reads the markers of the segments of an index on an object store, in order of their lists."""
    return run.markers("merge", _merged_numbers(run), SegmentMarker)


def read_table(store: Store, reference: FileReference) -> pa.Table:
    """Reads one of a generation's tables."""
    return parquet_files.read(store, reference)


def files(store: Store, generation: Generation) -> list[str]:
    """Returns the paths, sorted, of every file that a generation needs, itself included."""
    trained = generation.trained
    named = [trained.index, trained.training, trained.assignment, generation.canaries, *generation.tables.all]
    paths = {layout.generation(generation.generation), *(reference.path for reference in named if reference)}
    for table in generation.tables.all:
        columns = read_table(store, table)
        if "path" in columns.column_names:  # containers are elsewhere
            paths.update(path for path in columns["path"].to_pylist() if path)
    return sorted(paths)


def _is_abandoned(run: Run) -> bool:
    return run.store.exists(layout.abandoned(run.generation))


@dataclass(frozen=True)
class _Merged:
    """The merged index of a run: what names it, the rows of its table, how many vectors, and what is not there."""

    index: FileReference
    segments: list[dict[str, Any]]
    rows: int
    missing: list[FileReference]


def _pieces(run: Run, trained: TrainedIndex) -> _Merged:
    pieces, path = merged_pieces(run), layout.merged_index(run.generation)
    segments = [_segment_row(path, piece) for piece in pieces]
    index = FileReference(path, sum(piece.bytes for piece in pieces), f"pieces:{digest(segments)}")
    entry = trained.code_size + ID_BYTES
    rows, rest = divmod(sum(piece.bytes for piece in pieces if piece.number), entry)
    if rest:
        raise PixdexError(
            f"{run.store.url}/{path} has {rows * entry + rest} bytes of lists, no multiple of the {entry} that a "
            "vector takes: start again with --abandon-plan"
        )
    return _Merged(index, segments, rows, [] if run.store.holds(index) else [index])


def _segments(run: Run, trained: TrainedIndex) -> _Merged:
    markers = merged_segments(run)
    segments = [
        {"first_list": marker.first_list, "last_list": marker.last_list, "offset": 0, **asdict(marker.lists)}
        for marker in markers
    ]
    edges = [0, *(marker.last_list for marker in markers)]
    if [marker.first_list for marker in markers] != edges[:-1] or edges[-1] != trained.nlist:
        raise PixdexError(f"{run.store.url}: the segments do not cover all lists: start again with --abandon-plan")
    size = sum(marker.lists.bytes for marker in markers)
    index = FileReference(layout.index_folder(run.generation), size, f"{SEGMENTS}{digest(segments)}")
    missing = [marker.lists for marker in markers if not run.store.holds(marker.lists)]
    return _Merged(index, segments, sum(marker.rows for marker in markers), missing)


def _merged_numbers(run: Run) -> list[int]:
    names = run.store.names(layout.marker_folder(run.generation, "merge"))
    return [int(name.removesuffix(".json")) for name in names]


def _check_whole(run: Run, merged: _Merged, shards: Sequence[ShardMarker], blocks: Sequence[ListsMarker]) -> None:
    rows, listed = sum(marker.rows for marker in shards), sum(marker.rows for marker in blocks)
    if not rows == listed == merged.rows:
        raise PixdexError(
            f"{run.store.url}: shards hold {rows} rows, their shard indexes {listed}, the merged index "
            f"{merged.rows}: start again with --abandon-plan"
        )
    for file in merged.missing:
        raise PixdexError(
            f"{run.store.url}/{file.path} is not {file.bytes} bytes long: start again with --abandon-plan"
        )


def _totals(shards: Sequence[ShardMarker], blocks: int) -> Totals:
    items, rejected = sum(marker.items for marker in shards), sum(marker.rejected for marker in shards)
    return Totals(
        items=items,
        embedded=items - rejected,
        rejected=rejected,
        vectors=sum(marker.rows for marker in shards),
        tombstones=0,
        images=sum(marker.images for marker in shards),
        texts=sum(marker.texts for marker in shards),
        keywords=sum(marker.keywords for marker in shards),
        shards=len(shards),
        blocks=blocks,
    )


def _shard_row(marker: ShardMarker) -> dict[str, Any]:
    counts = {name: getattr(marker, name) for name in _SHARD_COUNTS}
    ready = {"ready": asdict(marker.ready) if marker.ready else None}
    return counts | (asdict(marker.embeddings) if marker.embeddings else {}) | ready


def _block_row(marker: ListsMarker) -> dict[str, Any]:
    return {"block": marker.number, "rows": marker.rows, **asdict(marker.lists)}


def _reject_row(marker: ShardMarker) -> dict[str, Any]:
    assert marker.rejects is not None
    return {"shard": marker.shard, "rejected": marker.rejected, **asdict(marker.rejects)}


def _segment_row(path: str, piece: PieceMarker) -> dict[str, Any]:
    return {
        "first_list": piece.first_list,
        "last_list": piece.last_list,
        "offset": piece.offset,
        "bytes": piece.bytes,
        "path": path,
        "checksum": piece.checksum,
    }


def _write(store: Store, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> FileReference:
    with store.scratch() as scratch:
        file = scratch / "table.parquet"
        parquet_files.write(pa.Table.from_pylist(list(rows), schema=schema), file)
        checksum = sha256_of(file)
        return store.upload_as(file, layout.table(checksum), f"sha256:{checksum}")
