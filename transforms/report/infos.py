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
    """Returns the infos under autofaiss's names; sizes in bytes, of the merged index alone."""
    generation, training = facts.generation, facts.training
    trained, vectors = generation.trained, generation.totals.vectors
    infos: dict[str, Any] = {
        "index_key": trained.key,
        "index_param": f"nprobe={trained.nprobe}",
        "index_path": generation.index.path,
        "size in bytes": generation.index.bytes,
        "nb vectors": vectors,
        "vectors dimension": trained.dim,
        "compression ratio": round(_FLOAT_BYTES * trained.dim * vectors / max(1, generation.index.bytes), 4),
    }
    if training is not None:
        # Root mean square of what coding loses, over that of the vectors: autofaiss takes means of lengths.
        infos["reconstruction error %"] = round(100 * training.held_out_residual**0.5, 4)
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
