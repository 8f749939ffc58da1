"""Whether a generation is whole: every file, every checksum, every count, and every id in exactly one place.

What is wrong is collected by the name of the file, and not raised: a person who repairs wants to see all of it. What is
damaged as a file is not looked into; everything else is.

Cost: reads every file once, and lists and key buckets a second time for what is in them; several threads share the
work. Memory: 8 KiB a shard, and what each thread has at hand, at most 64 MiB of lists or one key bucket.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from transforms.digests import digest
from transforms.errors import PixdexError
from transforms.generations import merged_index, published, tables
from transforms.generations.manifest import PIECES, Generation
from transforms.generations.merged_index import FileRange
from transforms.index.lists.opened import opened_lists
from transforms.index.trained import read_training
from transforms.records import FileReference
from transforms.shards import ready_files
from transforms.shards.stored_vectors import opened_vectors
from transforms.storage import layout
from transforms.storage.backend import StoredFile
from transforms.storage.store import Store
from transforms.upkeep import garbage, verify_counts, verify_rows
from transforms.upkeep.report import REBUILD, RENEW, RESTORE, Report
from transforms.upkeep.verify_counts import Looked, for_each

_READERS: Final = min(8, 2 + (os.cpu_count() or 1))
_DESCRIBED = ("key", "metric", "dim", "nlist", "code_size")
"""What a manifest and `training.json` both say of a trained index."""


def verify(store: Store, generation: Generation, *, quick: bool = False) -> Report:
    """Looks at everything that a generation needs.

    Args:
        store: the root.
        generation: one of it.
        quick: only whether files are there with their sizes, whether tables can be read, and whether counts agree.
    """
    report = Report(store)

    def look(file: FileReference, *, quick: bool) -> None:
        _look_at(store, report, file, quick=quick, way_out=_way_out(generation, file))

    manifest = layout.generation(generation.generation)
    report.saw([FileReference(manifest, len(store.read(manifest)), "")])
    with ThreadPoolExecutor(_READERS, "verify") as pool:
        listings = generation.tables.all
        for_each(pool, listings, lambda table: look(table, quick=False))
        files = _files(store, generation, report)
        report.saw([*listings, *files])
        for_each(pool, files, lambda file: look(file, quick=quick))
        _merged_file(store, generation, report, pool, quick=quick)
        _trained(store, generation, report)
        if not report.is_whole(*listings):
            return report  # nothing else is known of what a table named
        looked = Looked.at(store, generation, report)
        _ready(looked, pool)
        verify_counts.check(looked, pool)
        if not quick:
            verify_rows.check(looked, pool)
    return report


def orphans(store: Store, needed: Iterable[str]) -> list[StoredFile]:
    """Returns files of the root that nothing needs: what stopped runs left, until pixdex gc drops it.

    Reports of the generations that there are belong to these.
    """
    wanted = set(needed)
    reports = (f"{layout.report_folder(number)}/" for number in published.numbers(store))
    others = ("plans/", "generations/", *reports)
    return [file for file in garbage.everything(store) if file.path not in wanted and not file.path.startswith(others)]


def _files(store: Store, generation: Generation, report: Report) -> list[FileReference]:
    """Returns every file that is named with its checksum, tables left out; of a merged file, only its name and size."""
    named = [file for file in tables.named_in_manifest(generation) if file not in generation.tables.all]
    for table in generation.tables.all:
        if report.is_whole(table):
            try:
                named += tables.named_in_table(store, generation, table)
            except (PixdexError, OSError) as error:
                report.unreadable(table, error, _way_out(generation, table))
    return named


def _way_out(generation: Generation, file: FileReference) -> str | None:
    """Returns what helps when a file is lost, where its folder does not say it."""
    if file in (generation.tables.blocks, generation.tables.segments):
        return REBUILD
    if file.path.startswith("rejects/") and generation.request.is_ready:
        return RENEW
    return None


def _look_at(store: Store, report: Report, file: FileReference, *, quick: bool, way_out: str | None = None) -> None:
    """Compares a file with what its reference says."""
    try:
        size = store.size(file.path)
        if size != file.bytes:
            report.damaged(file, f"has {size} bytes instead of {file.bytes}", way_out)
            return
        scheme, _, checksum = file.checksum.partition(":")
        if quick or scheme == PIECES:  # whose ranges have checksums of their own
            return
        if scheme == "xxh3" and file.path.startswith(f"{layout.VECTORS}/"):
            opened_vectors(store, file).verify()
        elif scheme == "xxh3":
            with opened_lists(store, file) as lists:
                lists.verify()
        elif scheme != "sha256" or store.sha256(file.path) != checksum:
            report.damaged(file, "does not match its checksum, some of its bytes are wrong", way_out)
    except FileNotFoundError:
        report.damaged(file, "is missing", way_out)
    except (PixdexError, OSError) as error:
        report.unreadable(file, error, way_out)


def _merged_file(
    store: Store, generation: Generation, report: Report, pool: ThreadPoolExecutor, *, quick: bool
) -> None:
    """Checks that the ranges of the merged index are all of it, and of a merged file the checksum of every range.

    Segments are files, which are checked as such.
    """
    index, table = generation.index, generation.tables.segments
    if not report.is_whole(table):
        return
    rows = tables.segment_rows(store, generation)
    scheme = index.checksum.partition(":")[0]
    if index.checksum != f"{scheme}:{digest(rows)}":
        report.found(table.path, "does not list the ranges of the merged index that the generation names")
    parts = [merged_index.range_of(row) for row in rows]
    if generation.is_segmented:
        edges = [part.last_list for part in parts]
        is_all = [part.first_list for part in parts] == [0, *edges[:-1]] and edges[-1:] == [generation.trained.nlist]
    else:
        is_all = merged_index.are_whole(parts, generation.trained.nlist, index.bytes)
    if not is_all:
        report.found(table.path, "has ranges that leave a gap, or overlap, or are not as many as there are lists")
    if not generation.is_segmented and not quick and report.is_whole(index):
        for_each(pool, parts, lambda part: _look_at_range(store, report, index, part))


def _look_at_range(store: Store, report: Report, index: FileReference, part: FileRange) -> None:
    """Compares a range of the merged file with its checksum."""
    try:
        with store.open_ranges(index.path) as stream:
            checksum = merged_index.checksum_of(stream, part.offset, part.bytes)
    except (PixdexError, OSError) as error:
        report.unreadable(index, error)
        return
    if part.checksum != checksum:
        report.damaged(index, f"does not match its checksum, of {part} some are wrong")


def _trained(store: Store, generation: Generation, report: Report) -> None:
    """Checks that the files of the trained index are those that its fingerprint is made of, and describe it."""
    trained = generation.trained
    files = [trained.index, trained.training, *([trained.assignment] if trained.assignment else [])]
    sums = "".join(file.checksum.removeprefix("sha256:") for file in files)
    if hashlib.sha256(sums.encode()).hexdigest() != trained.fingerprint:
        report.found(trained.index.path, f"is not of the trained index {trained.fingerprint}", RESTORE)
    if not report.is_whole(trained.training):
        return
    try:
        described = read_training(store, trained)
    except (PixdexError, OSError) as error:
        report.unreadable(trained.training, error)
        return
    for name in _DESCRIBED:
        if (described_value := getattr(described, name)) != (named := getattr(trained, name)):
            report.found(trained.training.path, f"says {name} {described_value}, the generation {named}", RESTORE)


def _ready(looked: Looked, pool: ThreadPoolExecutor) -> None:
    """Checks that files of ready embeddings are there in the version that was registered; they are not read."""
    dead = {} if looked.dead is None else looked.dead.count_by_shard
    wanted: dict[tuple[str, str | None], None] = {}
    for marker in looked.shards:
        if marker.ready is not None and marker.shard not in dead:
            for part in marker.ready.of_each_file:
                wanted.update(dict.fromkeys(_registered(part.uri, part.version)))
            wanted.update(dict.fromkeys(_registered(marker.ready.metadata, marker.ready.metadata_version)))
    for_each(pool, wanted, lambda one: _look_elsewhere(looked.report, *one))


def _registered(uri: str | None, version: str | None) -> Iterator[tuple[str, str | None]]:
    if uri is not None:
        yield uri, version


def _look_elsewhere(report: Report, uri: str, version: str | None) -> None:
    try:
        current_version = ready_files.stat(uri)[1]
    except (OSError, PixdexError) as error:
        why = getattr(error, "strerror", None) or error
        report.found(uri, f"cannot be read ({why})", "put it back, or run pixdex reindex to drop what it held")
        return
    if version is not None and current_version != version:
        what = f"was changed since it was registered ({current_version}, not {version})"
        report.found(uri, what, "pixdex reindex takes it as it is now")
