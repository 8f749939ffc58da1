"""Publishing a generation: the last step of a run, which makes all of it visible at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transforms.digests import digest
from transforms.errors import PixdexError, check_file
from transforms.generations import manifest, tables
from transforms.generations.manifest import PIECES, SEGMENTS, Generation, Tables, Totals
from transforms.generations.tables import BlockMember, Row
from transforms.index.lists.format import ID_BYTES
from transforms.markers import KeysMarker, PieceMarker, RejectsFile, SegmentMarker, ShardMarker, TrainedIndex
from transforms.records import FileReference
from transforms.runs import inventory
from transforms.runs.run import Run
from transforms.storage import layout


def publish(run: Run) -> Generation:
    """Writes the tables of a finished run and creates its generation, the last step of all.

    Raises:
        PixdexError: the counts of shards, blocks and merged index do not agree.
    """
    store, base, trained = run.store, run.base, run.trained()
    lists, keys, files = inventory.lists(run), inventory.key_markers(run), inventory.tombstone_files(run)
    # What died stays known while a shard index may have it.
    shards = inventory.live_shards(run) if lists.merged else inventory.all_shards(run)
    merged = _merged(run, trained.trained) if lists.merged else None
    alive, listed = inventory.live_rows(run), sum(block.rows for block in lists.all)
    _check_whole(run, merged, alive, listed, shards)
    if base is not None and merged is None:
        index, segments = base.index, base.tables.segments
    else:
        assert merged is not None
        index, segments = merged.index, tables.write_segments(store, merged.segments)
    hidden = None if base is None else base.tables.hidden
    # What was tuned was tuned on those very lists.
    is_kept = base is not None and base.trained.fingerprint == trained.trained.fingerprint
    tuned = base.tuned if base is not None and is_kept else None
    generation = Generation(
        generation=run.generation,
        request=replace(run.request, reindex=None),
        request_digest=digest(replace(run.request, reindex=None)),
        totals=_totals(run, keys, shards, lists.all, listed - alive),
        trained=trained.trained,
        index=index,
        tables=Tables(
            shards=tables.write_shards(store, shards),
            blocks=tables.write_blocks(store, lists.all),
            segments=segments,
            rejects=tables.write_rejects(store, _rejects(run)),
            tombstones=tables.write_tombstones(store, files),
            keys=tables.write_keys(store, keys),
            containers=tables.write_containers(store, run.plan.containers),
            hidden=hidden,
        ),
        next_shard=run.plan.first_shard + run.plan.shards,
        canaries=trained.canaries,
        drift=None if base is None or inventory.retrains(run) else run.drift.drift,
        tuned=tuned,
        format_version=manifest.version_of(run.request, hidden, tuned),
    )
    return store.commit(layout.generation(run.generation), manifest.seal(generation))


def merged_pieces(run: Run) -> list[PieceMarker]:
    """Reads the markers of a merged file, its head (number 0) and every range of lists, in order of offset."""
    return run.markers("merge", run.numbers("merge"), PieceMarker)


def merged_segments(run: Run) -> list[SegmentMarker]:
    """Reads the markers of the segments of an index on an object store, in order of their lists."""
    return run.markers("merge", run.numbers("merge"), SegmentMarker)


@dataclass(frozen=True)
class _Merged:
    """The merged index of a run: what names it, the rows of its table, how many vectors, and what is not there."""

    index: FileReference
    segments: list[Row]
    rows: int
    missing: list[FileReference]


def _merged(run: Run, trained: TrainedIndex) -> _Merged:
    return _pieces(run, trained) if run.store.local is not None else _segments(run, trained)


def _pieces(run: Run, trained: TrainedIndex) -> _Merged:
    pieces, path = merged_pieces(run), layout.merged_index(run.generation)
    segments = [tables.piece_row(path, piece) for piece in pieces]
    for row, piece in zip(segments, pieces, strict=True):
        try:
            file = tables.file_of(row)
            check_file(file.path, file.bytes, file.checksum)
        except ValueError as error:
            marker = layout.marker(run.generation, "merge", piece.number)
            raise PixdexError(
                f"{run.store.url}/{marker} is damaged ({error}): start again with --abandon-plan"
            ) from error
    index = FileReference(path, sum(piece.bytes for piece in pieces), f"{PIECES}:{digest(segments)}")
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
    segments = [tables.segment_row(marker) for marker in markers]
    edges = [0, *(marker.last_list for marker in markers)]
    if [marker.first_list for marker in markers] != edges[:-1] or edges[-1] != trained.nlist:
        raise PixdexError(f"{run.store.url}: the segments do not cover all lists: start again with --abandon-plan")
    size = sum(marker.lists.bytes for marker in markers)
    index = FileReference(layout.index_folder(run.generation), size, f"{SEGMENTS}{digest(segments)}")
    missing = [marker.lists for marker in markers if not run.store.holds(marker.lists)]
    return _Merged(index, segments, sum(marker.rows for marker in markers), missing)


def _check_whole(run: Run, merged: _Merged | None, alive: int, listed: int, shards: Sequence[ShardMarker]) -> None:
    """Counts the same rows in the key tables, in shards less their tombstones, and in all lists."""
    dead = inventory.dead_rows(run)
    counts = dead.count_by_shard
    stored = sum(marker.rows - min(marker.rows, counts.get(marker.shard, 0)) for marker in shards)
    agree = alive <= listed <= alive + dead.rows if merged is None else alive == listed == merged.rows
    if stored != alive or not agree:
        kept = "" if merged is None else f", the merged index {merged.rows}"
        raise PixdexError(
            f"{run.store.url}: shards hold {stored} live rows, the key tables {alive}, their shard indexes {listed}"
            f"{kept}: start again with --abandon-plan"
        )
    for file in merged.missing if merged is not None else []:
        raise PixdexError(
            f"{run.store.url}/{file.path} is not {file.bytes} bytes long: start again with --abandon-plan"
        )


def _totals(
    run: Run, keys: Sequence[KeysMarker], shards: Sequence[ShardMarker], blocks: Sequence[BlockMember], dead: int
) -> Totals:
    if keys:
        items, rejected = sum(marker.entries for marker in keys), sum(marker.rejected for marker in keys)
        counts = {name: sum(getattr(marker, name) for marker in keys) for name in ("images", "texts", "keywords")}
    else:
        buried = inventory.dead_rows(run).count_by_shard
        alive = [marker for marker in shards if marker.shard not in buried]  # of ready embeddings: all rows or none
        items, rejected = sum(marker.items for marker in alive), sum(marker.rejected for marker in alive)
        counts = {name: sum(getattr(marker, name) for marker in alive) for name in ("images", "texts", "keywords")}
    return Totals(
        items=items,
        embedded=items - rejected,
        rejected=rejected,
        vectors=sum(counts.values()),
        tombstones=dead,
        **counts,
        shards=len(shards),
        blocks=len(blocks),
    )


def _rejects(run: Run) -> dict[int, RejectsFile]:
    """The files of rejects: the base's, less what was forgotten, and the run's own."""
    rejects: dict[int, RejectsFile] = {} if run.base is None else tables.rejects_of(run.store, run.base)
    for changed in inventory.tombstone_markers(run):
        rejects.update((file.shard, file) for file in changed.rejects)
    rejects.update(
        (marker.shard, RejectsFile(marker.shard, marker.rejected, marker.rejects)) for marker in run.shards()
    )
    buried = inventory.dead_rows(run).count_by_shard
    for marker in inventory.all_shards(run):
        if marker.ready and marker.shard in buried:  # a file that is gone takes its rejects along
            rejects.pop(marker.shard, None)
    return rejects
