"""Searches an index with a text, a picture or a vector.

By text, with the encoder that the index was built with:

    pixdex search --root ./emoji "a red circle"

By picture, the twenty nearest, as a page of pictures too:

    pixdex search --root ./emoji --image photo.png -k 20 --html results.html

By a vector from elsewhere (float32, one row or several), as JSON for another program:

    pixdex search --root ./emoji --vector query.npy --json

Several queries at once, each answered by itself: words are one text unless one of them has a space in it, then each is
a text of its own; --image is repeated, and --queries names a file with a text a line:

    pixdex search --root ./emoji "a red circle" "two blue squares" --image photo.png

Like an item of the index; several made into one query, less a concept; with what it finds first; and only some:

    pixdex search --root ./shop --like 'file:///shop/items.csv#1234'
    pixdex search --root ./shop "red shoes" --image shoe.jpg --weight 1 --weight 0.5 --not "sandals"
    pixdex search --root ./shop "red shoes" --expand 10 --min-score 0.2
    pixdex search --root ./shop "red shoes" --min-score auto
    pixdex search --root ./shop "red shoes" --where "price < 50" --group-by brand --dedup 0.98
    pixdex search --root ./shop "red shoes" --dedup content

With --min-score auto nonsense finds nothing: what queries that mean nothing score, which are made after the root's own
texts or pictures, is the score that a result must exceed. Each query has its own, which is lower where many rows stand
apart from the others. It needs 64 texts, for a text, or pictures, for a picture, and as many rows to be found; scores
must be cosines or distances. The first such search reads a sample of the vectors, and takes a second or two. Short
and vague queries may find nothing, too: give a number for these.

An index of codes ranks its --shortlist of 100 by stored vectors, where it has them; a result says whether its score is
exact.

A text or a picture finds pictures where the index has any, else texts; --modality says otherwise. Each item is found
once, by its nearest row. Scores are cosines (inner products), higher is nearer, or distances, lower is nearer: squared
L2, or L1. An index of ready embeddings knows no encoder, so it is searched with --vector. Where the encoder of a root
is a class of somebody's own (module:Class), texts and pictures are encoded only if --encoder, or
$PIXDEX_TRUSTED_ENCODERS, names that class, since importing it runs its code. The page of --html shows, and --dedup
content compares, pictures that lie where the sources of the root do, or that everybody can fetch over the web: those
that a root names elsewhere on this machine or its network are read only with --trust-uris.

Opening an index looks whether its head, what is not lists, is as it was written; a search maps the lists as they are.
With --check it reads all of them first, and says which are damaged, as pixdex verify does of everything.

With --json, the last line on stdout is one JSON object: {"generation", "results": [{"rank", "score", "id", "key",
"uri", "modality", "part", "caption", "columns", "exact"}]}, or, of several queries and of --queries, {"generation",
"queries": [{"query", "results"}]}. --explain adds {"explain": {"looks", "lists", "codes", "vectors", "milliseconds":
{step: ms}}}, and with --min-score auto "cut_offs", the score of each query; or it says the same on stderr. The steps
are open, encode (the query), select (what a condition or a modality leaves), scan, vectors (read and compared), rank,
metadata, and calibrate (of --min-score auto); what is looked at once more counts in rank, too. A search runs on this
machine; no Beam runner takes part.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.terminal import command_line, console, process, queries, text_table
from pipelines.terminal.flags import Flag, Group, switch
from pipelines.terminal.options import DEVICE, ENCODER_OF_ROOT, ROOT, TRUST_URIS, root_of
from pipelines.terminal.queries import CHANGES, QUERIES, RESULTS, RULES, Query
from pipelines.terminal.text_table import Column
from transforms.queries.answer import answers as answers_of
from transforms.queries.answer import combined, vectors_of_keys
from transforms.queries.encode import QueryEncoder
from transforms.queries.root import modality_of
from transforms.records import Modality
from transforms.search.hits import Hit, told
from transforms.search.rules import AUTO
from transforms.search.searcher import Searcher
from transforms.search.trace import Trace
from transforms.storage import uris
from transforms.storage.outside import FLAG, Outside

if TYPE_CHECKING:
    from pipelines.terminal.result_page import Answer

_MODALITIES: Final[dict[str, Modality]] = {"text": "text", "picture": "image"}
"""Of queries, for `--min-score auto`; the others are vectors."""

_SCORES: Final = {"ip": "inner product", "l2": "squared distance", "l1": "L1 distance"}

SHOWN: Final = ("name", "group")
"""Columns of the source that are shown where there are any."""


OPTIONS: Final = (
    ROOT,
    QUERIES,
    CHANGES,
    ENCODER_OF_ROOT,
    DEVICE,
    RESULTS,
    RULES,
    Group(
        "LoadingOptions",
        "How the index is held",
        (
            switch(
                "--fast-scan",
                "read 4-bit PQ or RaBitQ codes into memory as FastScan: faster scans, slower opening, rounded scores",
            ),
            switch(
                "--check",
                "hold every list, and each shard with a result, against its checksum first (default: the index's head)",
            ),
        ),
    ),
    Group(
        "OutputOptions",
        "How results are shown",
        (
            switch("--json", "print one JSON object instead of a table"),
            Flag("--columns", "NAME,…", "columns of the source that table (default: name,group) and page show"),
            switch("--explain", "also say what was done: lists, codes, vectors read, milliseconds of each step"),
            Flag("--html", "FILE", "also write a page of result pictures"),
            TRUST_URIS,
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the search; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: search(arguments))


def search(argv: Sequence[str]) -> int:
    """Parses, searches and shows."""
    options = command_line.parse("search", __doc__, argv, OPTIONS)
    queries.check(options)
    queries.rules_of(options)  # before anything is opened
    trace = Trace(is_full=options.explain)
    with trace.step("open"):
        searcher = Searcher.open(
            root_of(options), fast_scan=options.fast_scan, check=options.check, trust_uris=options.trust_uris
        )
        encoder = QueryEncoder(searcher.generation.request, device=options.device, named=options.encoder)
        columns = _columns(options.columns, searcher)
    with trace.step("encode"):
        asked, vectors = _asked(searcher, encoder, options)
    modality = modality_of(searcher, options.modality, is_vector=options.vector is not None)
    wanted = queries.wanted_of(options, modality, queries.kind_of(asked))
    found = answers_of(searcher, encoder, vectors, wanted, trace, [_MODALITIES.get(query.kind) for query in asked])
    answers = list(zip(asked, found, strict=True))
    if options.html:
        _write_page(searcher, options, answers, () if options.columns is None else columns)
    if options.json:
        answer = _as_json(searcher, answers, is_list=len(answers) > 1 or options.queries is not None)
        console.show_json(answer | ({"explain": trace.told()} if options.explain else {}))
    else:
        for place, (query, hits) in enumerate(answers):
            if len(answers) > 1:
                console.show("\n" * (place > 0) + text_table.plain(query.name))
            if hits:
                console.show(table(hits, columns=columns))
            else:
                why = f": none scores {_score(searcher, trace.cut_offs[place])}" if trace.cut_offs else ""
                console.say(f"nothing found among {searcher.generation.totals.vectors} vectors{why}")
    if options.explain and not options.json:
        console.say(_explained(trace, len(answers)))
    if options.html:
        console.say(f"wrote {options.html}")
    return console.DONE


def _asked(searcher: Searcher, encoder: QueryEncoder, options: Namespace) -> tuple[list[Query], NDArray[np.float32]]:
    """Returns the queries of a command line and their vectors, `(q, d)`."""
    if options.vector is not None:
        vectors = queries.read_vectors(options.vector)
        return queries.queries_of(options, len(vectors)), vectors
    asked = queries.queries_of(options, 0)
    names = {kind: [query.name for query in asked if query.kind == kind] for kind in ("text", "picture", "item")}
    parts = [
        make(names[kind])
        for kind, make in (
            ("text", encoder.texts), ("picture", encoder.pictures), ("item", partial(vectors_of_keys, searcher)),
        )
        if names[kind]
    ]  # fmt: skip
    vectors = np.concatenate(parts)
    if options.weight:
        return [queries.together(asked)], combined(searcher, vectors, options.weight)
    return asked, vectors


def _as_json(searcher: Searcher, answers: Sequence[tuple[Query, list[Hit]]], *, is_list: bool) -> dict[str, object]:
    results = [{"query": query.name, "results": told(hits)} for query, hits in answers]
    answer = {"queries": results} if is_list else {"results": results[0]["results"]}
    return {"generation": searcher.generation.generation, **answer}


def _score(searcher: Searcher, cut_off: float) -> str:
    return f"{cut_off:.4f} or {'more' if searcher.generation.trained.metric == 'ip' else 'less'} (--min-score {AUTO})"


def _explained(trace: Trace, queries: int) -> str:
    steps = " · ".join(f"{name} {took:.1f}" for name, took in trace.milliseconds.items())
    chosen = ", ".join(f"{score:.4f}" for score in trace.cut_offs)
    return (
        f"queries {queries}, looks {trace.looks}, lists probed {trace.lists:,}, codes scanned {trace.codes:,}, "
        f"vectors read {trace.vectors:,}\n"
        + (f"--min-score {AUTO}: {chosen}\n" if chosen else "")
        + f"milliseconds: {steps}"
    )


def table(hits: Sequence[Hit], width: int | None = None, *, columns: Sequence[str] = SHOWN) -> str:
    """Returns results as a table: rank, score, then columns of the source, caption where there are any, and the URI.

    Of the columns those are shown that a result has something in. `width` None takes the terminal's; on no terminal
    nothing is cut.
    """
    shown = [name for name in columns if any(hit.columns.get(name) not in (None, "") for hit in hits)]
    worded = any(hit.caption for hit in hits) and ("name" not in shown or any(hit.modality != "image" for hit in hits))
    headings = [Column("rank", "right"), Column("score", "right")]
    cells = [[str(hit.rank) for hit in hits], [f"{hit.score:.4f}" for hit in hits]]
    for name in shown:
        headings.append(Column(name, cut="end"))
        cells.append(["" if hit.columns.get(name) is None else str(hit.columns[name]) for hit in hits])
    if any(hit.modality != "image" for hit in hits):
        headings.append(Column("modality"))
        cells.append([hit.modality for hit in hits])
    if worded:
        headings.append(Column("caption", cut="end"))
        cells.append([hit.caption or "" for hit in hits])
    headings.append(Column("uri", cut="start"))
    cells.append([hit.place for hit in hits])
    return text_table.render(headings, list(zip(*cells, strict=True)), width or text_table.terminal_width())


def write_page(
    file: Path,
    searcher: Searcher,
    answers: Sequence["Answer"],
    *,
    trust_uris: bool = False,
    columns: Sequence[str] = (),
) -> None:
    """Writes results as a page of pictures; says which of them are not read unless the root's URIs are trusted.

    `columns` of the source stand below each result, beside its name.
    """
    from pipelines.terminal import result_page  # noqa: PLC0415 - likewise

    generation = searcher.generation
    outside = Outside.of(generation.request, trusted=trust_uris)
    totals, trained = generation.totals, generation.trained
    normalised = generation.request.encoder.normalize
    page = result_page.page(
        answers,
        outside=outside,
        title="Search results",
        note=f"{totals.embedded:,} items · {totals.vectors:,} vectors · {trained.key} · "
        f"encoder {generation.request.encoder.spec}",
        nearest=_SCORES[trained.metric] if trained.metric != "ip" or not normalised else "cosine",
        columns=columns,
    )
    result_page.write(file, page)
    unread = result_page.unread(answers, outside)
    if unread:
        console.say(f"{len(unread)} pictures are not read, since {unread[0]}: if you trust the root, say {FLAG}")


def _columns(names: str | None, searcher: Searcher) -> tuple[str, ...]:
    """The columns that are named, each of which a row has, or else the usual ones."""
    if names is None:
        return SHOWN
    columns = tuple(name.strip() for name in names.split(",") if name.strip())
    if searcher.generation.totals.vectors:
        for name in columns:
            searcher.check_column(name)
    return columns


def _write_page(
    searcher: Searcher, options: Namespace, answers: Sequence[tuple[Query, list[Hit]]], columns: Sequence[str]
) -> None:
    from pipelines.terminal.result_page import Answer  # noqa: PLC0415 - reads pictures, and only pages show any

    shown = [
        Answer(
            query.name,
            hits,
            uris.absolute(query.name) if query.kind == "picture" else None,
            query.kind in ("vector", "item", "several"),
        )
        for query, hits in answers
    ]
    write_page(queries.path_of("--html", options.html), searcher, shown, trust_uris=options.trust_uris, columns=columns)


if __name__ == "__main__":
    process.run(main)
