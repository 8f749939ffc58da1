"""From a command line to figures: what `evaluate` does once its words are read."""

import json
import os
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipelines.running import neighbours
from pipelines.running.destination import Destination
from pipelines.terminal import console
from pipelines.terminal.command_line import CommandLine
from pipelines.terminal.evaluation import report
from pipelines.terminal.evaluation.report import Evaluation, OfJudgements
from pipelines.terminal.options import root_of
from pipelines.terminal.queries import path_of
from transforms.errors import PixdexError, UsageError
from transforms.evaluation.curve import Point
from transforms.evaluation.judged import Judged
from transforms.evaluation.labels import Labelled, voted
from transforms.generations.published import open_generation
from transforms.index.exact import NO_ROW
from transforms.proof import curve, judgements, queries
from transforms.proof.exact import Neighbours
from transforms.proof.judgements import Judgements
from transforms.proof.queries import Named
from transforms.proof.request import QuerySet
from transforms.queries.encode import QueryEncoder
from transforms.queries.root import modality_of
from transforms.search.hits import Asked
from transforms.search.searcher import Searcher
from transforms.search.slices import Whole

JUDGED: Final = 100
"""Results that are looked at for MAP, as TREC has it."""


@dataclass(frozen=True)
class _Asked:
    """What is asked: queries whose exact neighbours count, those that judgements are about, and held-out rows."""

    counted: tuple[QuerySet, ...]
    judged: Named | None
    judgements: Judgements
    held_out: QuerySet | None

    @property
    def sets(self) -> tuple[QuerySet, ...]:
        """Those whose exact neighbours are wanted."""
        return (*self.counted, *([self.held_out] if self.held_out is not None else []))


def evaluate(line: CommandLine) -> int:
    """Finds exact neighbours, measures, and reports; returns the exit code of success."""
    options, began = line.options, time.monotonic()
    destination, store = Destination.of(line), root_of(line.options)
    destination.prepare(options.root, ())
    folder = _output(options)
    generation = open_generation(store)
    if not generation.totals.vectors:
        raise UsageError(f"{store.url} holds no vectors: there is nothing to evaluate")
    unopened = Searcher(store, generation, trust_uris=options.trust_uris, index=Whole(store, generation))
    asked = _asked(unopened, options)
    request = neighbours.request_of(store, generation, asked.sets, options.k)
    prepared = time.monotonic()
    found = neighbours.found(request, asked.sets, destination, options, "evaluate")
    if found is None:
        return console.DONE
    there = time.monotonic()
    made = _measured(Searcher(store, generation, trust_uris=options.trust_uris), asked, found, options)
    console.show(report.text_of(made))
    if folder is not None:
        _write(made, folder)
    seconds = {"prepare": prepared - began, "neighbours": there - prepared, "search": time.monotonic() - there}
    told = {"seconds": {stage: round(took, 3) for stage, took in seconds.items()}, "output": options.output}
    console.show_json(report.summary(made) | told)
    return console.DONE


def _asked(searcher: Searcher, options: Namespace) -> _Asked:
    file = neighbours.query_file(options)
    encoder = QueryEncoder(searcher.generation.request, device=options.device, named=options.encoder)
    modality = modality_of(searcher, options.modality, is_vector=file is not None and file.are_vectors)
    judged = judgements.read(options.judgements) if options.judgements is not None else {}
    named: Named | None = None
    if file is not None:
        named = neighbours.named_queries(searcher, encoder, file, modality)
    elif judged:
        named = queries.of_texts(searcher, encoder, list(judged), modality)
    if judged and named is not None and not set(named.names) & set(judged):
        raise UsageError(
            f"--judgements {options.judgements} is of none of the queries: name each as in {options.queries}, vectors "
            "by their numbers, from 0"
        )
    counted: tuple[QuerySet, ...] = (named.queries,) if named is not None else ()
    if named is None and options.label_column is None:
        counted = tuple(queries.of_root(searcher, options.num_queries, options.seed))
        if options.modality is not None:
            counted = tuple(replace(one, asked=replace(one.asked, modality=modality)) for one in counted)
    held_out = None
    if options.label_column is not None:
        held_out = queries.held_out(searcher, options.label_column, modality, options.num_queries, options.seed)
    return _Asked(counted, named if judged else None, judged, held_out)


def _measured(searcher: Searcher, asked: _Asked, found: Sequence[Neighbours], options: Namespace) -> Evaluation:
    points: list[Point] = []
    nprobes = sorted(set(options.nprobe)) if options.nprobe else curve.nprobes_of(searcher)
    shortlists = sorted(set(options.shortlist)) if options.shortlist else list(curve.shortlists_of(searcher))
    if any(shortlists) and not searcher.refines:
        console.say("this root has no vectors that rank better than its codes: --shortlist changes nothing")
        shortlists = [0]
    for one, near in zip(asked.counted, found, strict=False):
        console.say(f"searching {len(one.vectors)} queries ({one.asked.name}) at several settings")
        points += curve.points(searcher, one, near, options.k, nprobes, shortlists, until_enough=not options.nprobe)
        points += [] if (tuned := curve.tuned(searcher, one, near, options.k)) is None else [tuned]
    return Evaluation(
        generation=searcher.generation.generation,
        root=searcher.store.url,
        k=options.k,
        points=tuple(points),
        queries=sum(len(one.vectors) for one in asked.sets),
        judged=_of_judgements(searcher, asked, options.k),
        labelled=_of_labels(searcher, asked.held_out, found[-1], options),
    )


def _of_judgements(searcher: Searcher, asked: _Asked, k: int) -> OfJudgements | None:
    if asked.judged is None:
        return None
    one = asked.judged.queries
    depth = max(k, JUDGED)
    results = searcher.nearest(one.vectors, Asked(depth, modality=one.asked.modality))
    keys = searcher.table_of(results.ids, ["key"])["key"].to_pylist()
    ends = results.counts.cumsum().tolist()
    rankings = {
        name: list(dict.fromkeys(keys[end - count : end]))
        for name, end, count in zip(asked.judged.names, ends, results.counts.tolist(), strict=True)
    }
    return OfJudgements.of(Judged.of(rankings, asked.judgements), k, depth)


def _of_labels(searcher: Searcher, held_out: QuerySet | None, found: Neighbours, options: Namespace) -> Labelled | None:
    if held_out is None:
        return None
    column, near = options.label_column, found[0][:, : options.k]
    labels = searcher.table_of(near[near != NO_ROW], [column])[column].to_pylist()
    there = iter([str(label) for label in labels])
    voters = [[next(there) for row in rows if row != NO_ROW] for rows in near.tolist()]
    truth = [str(label) for label in searcher.table_of(held_out.own, [column])[column].to_pylist()]
    return Labelled.of(truth, voted(voters, options.k))


def _output(options: Namespace) -> Path | None:
    if options.output is None:
        return None
    if not options.output.strip() or "://" in options.output:
        raise UsageError(f"--output {options.output!r}: name a folder of this machine")
    folder = path_of("--output", options.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise UsageError(f"--output {options.output} cannot be written ({error.strerror}): name another") from error
    return folder


def _write(made: Evaluation, folder: Path) -> None:
    from pipelines.terminal.evaluation.plots import write_plots  # noqa: PLC0415 - imports matplotlib

    text = json.dumps(report.everything(made), indent=1, sort_keys=True, allow_nan=False)
    aside = folder / f".evaluation.json.{os.getpid()}"
    try:
        aside.write_text(f"{text}\n", encoding="utf-8")
        aside.replace(folder / "evaluation.json")
        write_plots(made.points, made.k, folder, made.root.removeprefix("file://"))
    except OSError as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise PixdexError(f"--output {folder} cannot be written ({error.strerror or error})") from error
