"""Where things lie below a root: every path that pixdex reads or writes, relative to the root, is made here.

Names of data files contain the hash of their content; names of markers and manifests are fixed, and whoever creates
one first decides (see `transforms.storage.store`).
"""

FOLDER_SIZE = 4096
"""Shards a folder, so that no folder grows without bound."""

GENERATIONS = "generations"
PLANS = "plans"
TABLES = "tables"
LEASE = "lease.json"
"""Who writes, and since when; no more than a courtesy: what saves the data is that every commit is create-only."""
SCRATCH = ".scratch"
"""Temporary files of running workers, on roots that are folders; dead ones are swept by the next run."""


def generation(number: int) -> str:
    """The manifest of a generation."""
    return f"{GENERATIONS}/{number:06d}.json"


def plan_folder(number: int) -> str:
    """Everything about the run that makes generation `number`: request, plan, markers."""
    return f"{PLANS}/{number:06d}"


def request(number: int) -> str:
    """The request of a run."""
    return f"{plan_folder(number)}/request.json"


def plan(number: int) -> str:
    """The plan of a run."""
    return f"{plan_folder(number)}/plan.json"


def abandoned(number: int) -> str:
    """Exists when a run was given up: its generation and shard numbers are burned."""
    return f"{plan_folder(number)}/abandoned.json"


def rolled_back(number: int) -> str:
    """Exists when a rollback, or what hides items, published generation `number`, which has no plan then."""
    return f"{plan_folder(number)}/rolled-back.json"


def marker_folder(number: int, stage: str) -> str:
    """The markers of one stage of a run, one a task."""
    return f"{plan_folder(number)}/{stage}"


def marker(number: int, stage: str, task: int) -> str:
    """The marker of one task of a stage: a shard, a block or a piece."""
    return f"{marker_folder(number, stage)}/{task:010d}.json"


def attempt(number: int, shard: int) -> str:
    """Exists while a shard is being embedded, and stays when that ended its process."""
    return f"{plan_folder(number)}/attempts/{shard:010d}"


def beacons(number: int) -> str:
    """How far the tasks of a run are that are at work."""
    return f"{plan_folder(number)}/beacons"


def beacon_folder(number: int, stage: str) -> str:
    """The same of one stage, one a task."""
    return f"{beacons(number)}/{stage}"


def beacon(number: int, stage: str, task: int) -> str:
    """Written over and over while a task is at work, and gone when it is done."""
    return f"{beacon_folder(number, stage)}/{task:010d}.json"


def worked_on(number: int) -> str:
    """Which process works on a run, where that is one of a machine's own; it goes with the beacons."""
    return f"{beacons(number)}/process.json"


def stage_marker(number: int, stage: str) -> str:
    """Exists when every task of a stage is done."""
    return f"{marker_folder(number, 'stages')}/{stage}.json"


def refusal(number: int) -> str:
    """Of a dry run: why a night would be stopped before anything is embedded."""
    return f"{plan_folder(number)}/refusal.json"


def items_folder(number: int) -> str:
    """The item tables of a plan."""
    return f"{plan_folder(number)}/items"


def items_stem(source: int) -> str:
    """The first part of the name of what a container of a source lists."""
    return f"items-{source:04d}"


def source_of_items(path: str) -> int:
    """The number of the source whose container an item table lists.

    >>> source_of_items(f"{items_folder(2)}/{items_stem(3)}-0123456789abcdef.parquet")
    3
    """
    return int(path.rpartition("/")[2].split("-")[1])


def removed_folder(number: int) -> str:
    """The entries of items that a run removes, one file a hash bucket."""
    return f"{plan_folder(number)}/removed"


def sample_folder(number: int) -> str:
    """The training sample of a run, one `.ivf` file a block."""
    return f"{plan_folder(number)}/sample"


def training_folder(number: int) -> str:
    """What the tasks of a run's training leave for each other: the routed sample, parents, centroids, sums."""
    return f"{plan_folder(number)}/training"


def group_stem(stage: str, group: int) -> str:
    """The first part of the name of what a task of training writes."""
    return f"{stage}-{group:010d}"


def table(checksum: str, folder: str = TABLES) -> str:
    """A table, by default one that generations list; `checksum` is the sha256 of its bytes, in hexadecimal."""
    return f"{folder}/{checksum}.parquet"


def embeddings_folder(shard: int) -> str:
    """The folder of a shard's embeddings."""
    return f"embeddings/{shard // FOLDER_SIZE:04d}"


def rejects_folder(shard: int) -> str:
    """The folder of a shard's rejects."""
    return f"rejects/{shard // FOLDER_SIZE:04d}"


def folder_of(shard: int) -> int:
    """The number of the folder that a shard lies in."""
    return shard // FOLDER_SIZE


def shard_stem(shard: int) -> str:
    """The first part of the name of a shard's files."""
    return f"shard-{shard:010d}"


def trained_folder(fingerprint: str) -> str:
    """A trained index: `index.faiss`, `training.json` and, of many lists, `assignment.safetensors`."""
    return f"trained/{fingerprint}"


def lists_folder(fingerprint: str) -> str:
    """The shard indexes made with a trained index."""
    return f"lists/{fingerprint}"


VECTORS = "vectors/none"
"""The vectors of blocks, for exact scores; what `none` stands for is that they depend on no trained index."""


def block_stem(block: int) -> str:
    """The first part of the name of a block's files."""
    return f"block-{block:010d}"


def merged_index(number: int) -> str:
    """The merged index of a generation."""
    return f"{index_folder(number)}/index.faiss"


def index_folder(number: int) -> str:
    """The merged index of a generation: one `index.faiss`, or segments where the root is no folder."""
    return f"index/{number:06d}"


def segment_stem(segment: int) -> str:
    """The first part of the name of a segment."""
    return f"segment-{segment:05d}"


def tier_folder(number: int) -> str:
    """What a merge of very many shard indexes makes on the way: a few larger files in their place."""
    return f"{plan_folder(number)}/tier-files"


def tier_stem(task: int) -> str:
    """The first part of the name of a file of the tier."""
    return f"tier-{task:07d}"


REPORTS = "reports"
"""What people read of a generation, which it does not need: times, hosts and owners may be in it."""


def report_folder(number: int) -> str:
    """The report of a generation, with all that belongs to it."""
    return f"{REPORTS}/{number:06d}"


def report(number: int) -> str:
    """The page itself."""
    return f"{report_folder(number)}/index.html"


def report_infos(number: int) -> str:
    """What autofaiss calls the infos of an index, with what a later report needs of the run."""
    return f"{report_folder(number)}/index_infos.json"


def report_evaluation(number: int) -> str:
    """A copy of the evaluation that the report shows."""
    return f"{report_folder(number)}/evaluation.json"


def report_begun(number: int) -> str:
    """Exists when the run of a generation has begun its report, which it tries once."""
    return f"{marker_folder(number, 'attempts')}/report"
