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

A text or a picture finds pictures where the index has any, else texts; --modality says otherwise. Each item is found
once, by its nearest row. Scores are cosines (inner products), higher is nearer, or distances, lower is nearer: squared
L2, or L1. An index of ready embeddings knows no encoder, so it is searched with --vector. Where the encoder of a root
is a class of somebody's own (module:Class), texts and pictures are encoded only if --encoder, or
$PIXDEX_TRUSTED_ENCODERS, names that class, since importing it runs its code. The page of --html shows pictures that lie
where the sources of the root do, or that everybody can fetch over the web: those that a root names elsewhere on this
machine or its network are read only with --trust-uris.

Opening an index looks whether its head, what is not lists, is as it was written; a search maps the lists as they are.
With --check it reads all of them first, and says which are damaged, as pixdex verify does of everything.

With --json, the last line on stdout is one JSON object: {"generation", "results": [{"rank", "score", "id", "key",
"uri", "modality", "part", "caption", "columns", "exact"}]}, or, of several queries and of --queries, {"generation",
"queries": [{"query", "results"}]}. A search runs on this machine; no Beam runner takes part.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.terminal import command_line, console, process, text_table
from pipelines.terminal.flags import Flag, Group, positive, switch, whole
from pipelines.terminal.options import DEVICE, ENCODER_OF_ROOT, ROOT, TRUST_URIS, root_of
from pipelines.terminal.text_table import Column
from transforms.errors import UsageError
from transforms.queries.encode import QueryEncoder
from transforms.queries.root import modality_of
from transforms.rejects import normalised_message
from transforms.search.hits import Hit
from transforms.search.searcher import Searcher
from transforms.storage import uris
from transforms.storage.outside import FLAG, Outside

if TYPE_CHECKING:
    from pipelines.terminal.result_page import Answer

_SCORES: Final = {"ip": "inner product", "l2": "squared distance", "l1": "L1 distance"}

SHOWN: Final = ("name", "group")
"""Columns of the source that are shown where there are any."""


@dataclass(frozen=True)
class Query:
    """One query: a text, or what a picture or a vector is called."""

    name: str
    is_picture: bool = False
    is_vector: bool = False


OPTIONS: Final = (
    ROOT,
    Group(
        "QueryOptions",
        "What is looked for",
        (
            Flag(
                "query",
                "TEXT",
                "words that describe it; when one has a space in it, each is a text of its own",
                nargs="*",
            ),
            Flag(
                "--image", "FILE", "a picture that it looks like: a path or URL; repeat it for several", action="append"
            ),
            Flag("--vector", "FILE.npy", "its vector, in the space of the index's encoder, or one a row"),
            Flag("--queries", "FILE", "texts, one a line, in UTF-8"),
        ),
    ),
    ENCODER_OF_ROOT,
    DEVICE,
    Group(
        "ResultOptions",
        "What is found",
        (
            Flag("-k", None, "results wanted (default 10)", positive, default=10),
            Flag(
                "--nprobe",
                "N",
                "inverted lists probed: more find more, slower (default: as trained, more where results are short)",
                positive,
            ),
            Flag(
                "--shortlist",
                "N",
                "so many of the nearest by their codes are ranked by their stored vectors, where a root has them; 0: "
                "none (default 100)",
                whole,
            ),
            Flag(
                "--modality",
                None,
                "what may be found (default: pictures where there are any, else texts; for --vector: any)",
                choices=("image", "text", "keyword", "any"),
            ),
        ),
    ),
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
    _check_flags(options)
    searcher = Searcher.open(
        root_of(options), fast_scan=options.fast_scan, check=options.check, trust_uris=options.trust_uris
    )
    given = None if options.vector is None else read_vectors(options.vector)
    queries = _queries(options, 0 if given is None else len(given))
    modality = modality_of(searcher, options.modality, is_vector=given is not None)
    vectors = _encoded(searcher, options, queries) if given is None else given
    found = searcher.search(vectors, options.k, options.nprobe, modality, options.shortlist)
    answers = list(zip(queries, found, strict=True))
    columns = _columns(options.columns)
    if options.html:
        _write_page(searcher, options, answers)
    if options.json:
        console.show_json(_as_json(searcher, answers, is_list=len(answers) > 1 or options.queries is not None))
    else:
        for place, (query, hits) in enumerate(answers):
            if len(answers) > 1:
                console.show("\n" * (place > 0) + text_table.plain(query.name))
            if hits:
                console.show(table(hits, columns=columns))
            else:
                console.say(f"nothing found among {searcher.generation.totals.vectors} vectors")
    if options.html:
        console.say(f"wrote {options.html}")
    return console.DONE


def _as_json(searcher: Searcher, answers: Sequence[tuple[Query, list[Hit]]], *, is_list: bool) -> dict[str, object]:
    results = [{"query": query.name, "results": [asdict(hit) for hit in hits]} for query, hits in answers]
    answer = {"queries": results} if is_list else {"results": results[0]["results"]}
    return {"generation": searcher.generation.generation, **answer}


def read_vectors(file: str) -> NDArray[np.float32]:
    """Returns the vectors that a `.npy` file holds, float32 `(q, d)`: one, or one a row.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    path = _path("--vector", file)
    try:
        if path.exists() and not path.is_file():  # a pipe would block for ever
            raise OSError("not a regular file")
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # hostile files raise anything: MemoryError, TokenError, BadZipFile
        raise UsageError(f"--vector {file} is not a readable .npy file: {normalised_message(error)}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise UsageError(f"--vector {file} holds no array of numbers: write one with numpy.save")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise UsageError(f"--vector {file} holds an array of shape {array.shape}: give one vector, or one a row")
    with np.errstate(over="ignore"):
        vectors: NDArray[np.float32] = np.atleast_2d(array).astype(np.float32)
    return vectors


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


def _check_flags(options: Namespace) -> None:
    """Refuses what is no query, before anything is opened.

    Raises:
        UsageError: there is no query, one that is empty, or vectors beside others.
    """
    for flag, values in (
        ("--image", options.image or ()),
        *(("--vector", [options.vector]), ("--queries", [options.queries]), ("--html", [options.html])),
    ):
        if "" in values:  # an unset variable of the shell
            raise UsageError(f"{flag} is empty: name a file")
    encoded = bool(options.query or options.image or options.queries)
    if encoded == (options.vector is not None):
        raise UsageError(
            "give queries: texts, --image FILE, --queries FILE, or --vector FILE.npy alone; see pixdex search --help"
        )
    _texts(options.query)


def _queries(options: Namespace, count: int) -> list[Query]:
    """Returns what is looked for, in the order in which it is answered: texts, then pictures, or `count` vectors."""
    if options.vector is not None:
        names = [f"{options.vector}, row {row}" for row in range(count)] if count > 1 else [options.vector]
        return [Query(name, is_vector=True) for name in names]
    texts = [*_texts(options.query), *(_lines(options.queries) if options.queries is not None else ())]
    return [*map(Query, texts), *(Query(location, is_picture=True) for location in options.image or ())]


def _texts(words: Sequence[str]) -> list[str]:
    """The texts of the command line: words without a space between them are one text, as they were typed."""
    if not words:
        return []
    texts = list(words) if any(len(word.split()) > 1 for word in words) else [" ".join(words)]
    if not all(text.strip() for text in texts):
        raise UsageError("the query is empty: say what to look for")
    return texts


def _lines(file: str) -> list[str]:
    path = _path("--queries", file)
    try:
        if path.exists() and not path.is_file():  # a pipe would block for ever
            raise OSError("not a regular file")
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--queries {file} is not a readable text in UTF-8: {normalised_message(error)}") from error
    if not any(line.strip() for line in lines):
        raise UsageError(f"--queries {file} holds no text: write one a line")
    return [line for line in lines if line.strip()]


def _columns(names: str | None) -> tuple[str, ...]:
    return SHOWN if names is None else tuple(name.strip() for name in names.split(",") if name.strip())


def _encoded(searcher: Searcher, options: Namespace, queries: Sequence[Query]) -> NDArray[np.float32]:
    encoder = QueryEncoder(searcher.generation.request, device=options.device, named=options.encoder)
    texts = [query.name for query in queries if not query.is_picture]
    pictures = [query.name for query in queries if query.is_picture]
    vectors = [encoder.texts(texts)] if texts else []
    return np.concatenate([*vectors, *([encoder.pictures(pictures)] if pictures else [])])


def _write_page(searcher: Searcher, options: Namespace, answers: Sequence[tuple[Query, list[Hit]]]) -> None:
    from pipelines.terminal.result_page import Answer  # noqa: PLC0415 - reads pictures, and only pages show any

    shown = [
        Answer(query.name, hits, uris.absolute(query.name) if query.is_picture else None, query.is_vector)
        for query, hits in answers
    ]
    columns = () if options.columns is None else _columns(options.columns)
    write_page(_path("--html", options.html), searcher, shown, trust_uris=options.trust_uris, columns=columns)


def _path(flag: str, file: str) -> Path:
    try:
        return Path(file).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{flag} {file}: there is no such user: write ./~… for a file's name") from error


if __name__ == "__main__":
    process.run(main)
