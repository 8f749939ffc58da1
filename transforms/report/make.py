"""Makes the report of a generation and writes it below its root: after each run, and whenever somebody asks for one."""

import logging
from dataclasses import dataclass
from functools import partial

from transforms.generations import manifest
from transforms.generations.manifest import Generation
from transforms.rejects import normalised_message
from transforms.report import infos, timing
from transforms.report.facts import gather
from transforms.report.page import page
from transforms.report.timing import Timing
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store

_log = logging.getLogger(__name__)


def after(run: Run, since: float) -> None:
    """Makes the report of what a run has published, once; that it cannot be made is logged, and fails nothing.

    An attempt that ended its process is not repeated: no report is worth a job that dies again and again.

    Args:
        run: a run; one that published nothing gets no report.
        since: when the job started, in seconds since the epoch.
    """
    number, store = run.generation, run.store
    try:
        if not store.exists(layout.generation(number)) or not store.create(layout.report_begun(number), b"{}\n"):
            return
        make(store, manifest.read(store, number), since=since).write(store)
    except Exception as error:  # noqa: BLE001 - whatever it is, the generation is published
        why = normalised_message(error)
        _log.warning("no report of generation %d: %s; make it with: pixdex report", number, why)


@dataclass(frozen=True)
class Made:
    """A report: its page, and its infos as they lie on storage; `evaluation` is one that is kept beside them."""

    generation: int
    page: str
    infos: bytes
    evaluation: bytes | None = None

    def write(self, store: Store) -> None:
        """Writes it into its root."""
        if self.evaluation is not None:
            store.overwrite(layout.report_evaluation(self.generation), self.evaluation)
        store.overwrite(layout.report_infos(self.generation), self.infos)
        store.overwrite(layout.report(self.generation), self.page.encode("utf-8", "replace"))


def make(
    store: Store,
    generation: Generation,
    *,
    since: float | None = None,
    evaluation: bytes | None = None,
    trust_uris: bool = False,
) -> Made:
    """Makes the report of a generation, and writes nothing.

    Args:
        store: the root.
        generation: one of it.
        since: when the job that made it started, in seconds since the epoch; None: as an earlier report says, or when
            its run was begun.
        evaluation: what `pixdex evaluate` wrote, which is kept for later reports of it; None: what is kept.
        trust_uris: as of a search.

    Raises:
        PixdexError: a table is missing or damaged.
    """
    took = partial(_took, store, generation, since)
    facts = gather(store, generation, took, evaluation=evaluation, trust_uris=trust_uris)
    return Made(generation.generation, page(facts), infos.encoded(infos.infos_of(facts)), evaluation)


def _took(store: Store, generation: Generation, since: float | None) -> Timing | None:
    number = generation.generation
    if since is None and (kept := infos.kept_timing(store, number)) is not None:
        return kept
    if not store.exists(layout.request(number)):
        return None
    return timing.taken_by(Run(store, number), generation, since)
