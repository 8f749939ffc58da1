"""What a merge reads: the shard indexes of a run, or the files of the tier that was made of them."""

from collections.abc import Sequence

from transforms.digests import digest
from transforms.index.lists.inputs import ListsReference, MergeInputs
from transforms.markers import ListsMarker, SegmentMarker
from transforms.runs import inventory
from transforms.runs.run import Run


def merge_inputs(run: Run) -> MergeInputs:
    """What the merge of a run reads: the files of its tier when it has one, else its shard indexes."""
    tier = run.stage_marker("tier")
    if tier is not None and tier.tasks:
        markers = run.markers("tier", range(tier.tasks), SegmentMarker)
        references = [ListsReference(range(one.first_list, one.last_list), one.lists) for one in markers]
    else:
        lists = range(run.trained().trained.nlist)
        references = [ListsReference(lists, one.lists) for one in blocks(run)]
    return MergeInputs(run.store, references)


def blocks(run: Run) -> list[ListsMarker]:
    """The markers of the shard indexes that a run merges, in order; none: it merges nothing."""
    return [block.marker for block in inventory.lists(run).merged]


def merge_digest(run: Run, merged: Sequence[ListsMarker]) -> str:
    """The digest of a merge: of the trained index and these shard indexes, in order."""
    return digest(run.trained().trained.fingerprint, [marker.lists for marker in merged])
