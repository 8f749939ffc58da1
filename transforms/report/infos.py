"""`index_infos.json`: what autofaiss calls the infos of an index; and what the run took, for later reports."""

import json
from dataclasses import asdict
from typing import Any, Final

import msgspec

from transforms.report.facts import Facts
from transforms.report.timing import Timing
from transforms.storage import layout
from transforms.storage.store import Store

_OWN: Final = "pixdex"
_FLOAT_BYTES: Final = 4


def infos_of(facts: Facts) -> dict[str, Any]:
    """Returns the infos under autofaiss's names; bytes, and the rows they hold, are those of the merged index."""
    generation, totals, trained = facts.generation, facts.generation.totals, facts.generation.trained
    merged = totals.vectors + totals.tombstones - facts.said["deltas"]["rows"]
    infos: dict[str, Any] = {
        "index_key": trained.key,
        "index_param": f"nprobe={trained.nprobe}",
        "index_path": generation.index.path,
        "size in bytes": generation.index.bytes,
        "nb vectors": totals.vectors,
        "vectors dimension": trained.dim,
        "compression ratio": round(_FLOAT_BYTES * trained.dim * merged / max(1, generation.index.bytes), 4),
    }
    if facts.samples is not None and facts.samples.reconstruction_error is not None:
        infos["reconstruction error %"] = round(facts.samples.reconstruction_error, 4)
    own: dict[str, Any] = {"generation": generation.generation, "published": facts.published, "made": facts.made}
    if facts.timing is not None:
        own["timing"] = asdict(facts.timing)
    if facts.evaluation is not None:
        evaluation = facts.evaluation
        usual = [point for kind in evaluation.kinds if (point := evaluation.usual(kind)) is not None]
        if usual:
            infos["99p_search_speed_ms"] = usual[0].p99_ms
        infos |= {f"{point.modality}-recall@{evaluation.k}": point.recall for point in usual}
    return {**infos, _OWN: own}


def encoded(infos: dict[str, Any]) -> bytes:
    """Returns infos as they lie on storage."""
    return f"{json.dumps(infos, indent=1, allow_nan=False)}\n".encode()


def kept_timing(store: Store, number: int) -> Timing | None:
    """Returns what the run of a generation took, as an earlier report of it has kept; None: none did."""
    try:
        data: Any = msgspec.json.decode(store.read(layout.report_infos(number)))
        return msgspec.convert(data[_OWN]["timing"], Timing)
    except Exception:  # noqa: BLE001 - there is none, or it is none: the run itself is asked, and nothing is lost
        return None
