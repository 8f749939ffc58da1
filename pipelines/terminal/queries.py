"""What a person looks for: the flags of queries, and the queries, files and vectors that they name."""

from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.terminal.flags import PROGRESS, Flag, Group, number, positive, size, whole
from pipelines.terminal.options import DEVICE, ENCODER_OF_ROOT, ROOT, TRUST
from transforms.errors import UsageError
from transforms.generations.tuned import QueryKind
from transforms.queries.answer import ALPHA, Wanted
from transforms.records import Modality
from transforms.rejects import normalised_message
from transforms.search.rules import AUTO, CONTENT, KEY, Rules

WORKERS: Final = Flag("--workers", "N", "processes of this machine, which share its cores (default 1)", positive)

PROOF: Final = (
    Flag("--seed", "N", "of what is drawn (default 0)", whole, default=0),
    Flag("--work", "DIR", "folder for what workers find, a path or URL (default: in the user's cache)"),
    WORKERS,
    *PROGRESS,
)
"""How exact neighbours of queries are found: of `evaluate` and `tune`."""


def score_or_content(text: str) -> float | str:
    """Reads what `--dedup` takes, for argparse."""
    if text == CONTENT:
        return CONTENT
    try:
        return number(text)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text!r} is neither a score, such as 0.98, nor {CONTENT}") from None


def score_or_auto(text: str) -> float | str:
    """Reads what `--min-score` takes, for argparse."""
    if text == AUTO:
        return AUTO
    try:
        return number(text)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text!r} is neither a score, such as 0.2, nor {AUTO}") from None


QUERIES: Final = Group(
    "QueryOptions",
    "What is looked for",
    (
        Flag(
            "query",
            "TEXT",
            "words that describe it; when one has a space in it, each is a text of its own",
            nargs="*",
        ),
        Flag("--image", "FILE", "a picture that it looks like: a path or URL; repeat it for several", action="append"),
        Flag("--like", "KEY", "an item of the index that it is like; repeat it for several", action="append"),
        Flag("--vector", "FILE.npy", "its vector, in the space of the index's encoder, or one a row"),
        Flag("--queries", "FILE", "texts, one a line, in UTF-8"),
        Flag(
            "--weight",
            "W",
            "makes one query of all: the weight of each, in the order texts, pictures, likes; one for each",
            number,
            action="append",
        ),
    ),
)

CHANGES: Final = Group(
    "QueryChangeOptions",
    "How queries are changed",
    (
        Flag("--not", "TEXT", "less of this: its vector is taken from that of each query; repeatable", action="append"),
        Flag("--expand", "N", "adds the N nearest results to each query, and searches again", whole, default=0),
        Flag(
            "--alpha", "A", f"each is weighted with its cosine to this power (default {ALPHA:g})", number, default=ALPHA
        ),
    ),
)

RESULTS: Final = Group(
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
            "what may be found (default: pictures where there are any, else texts; of vectors: any)",
            choices=("image", "text", "keyword", "any"),
        ),
    ),
)

RULES: Final = Group(
    "RuleOptions",
    "Which of the nearest are results",
    (
        Flag("--where", "SQL", "only rows for which it is true, such as \"category = 'shoes' AND price < 50\""),
        Flag(
            "--group-by",
            "COLUMN",
            "of rows with the same in it one is shown, as uri for one picture",
            default=KEY,
        ),
        Flag("--per-group", "N", "so many of each group are shown (default 1)", positive, default=1),
        Flag(
            "--dedup",
            f"SCORE|{CONTENT}",
            "what is as near as that to a result before it is not shown; content: what is the same, the bytes of a "
            "picture or the words of a text",
            score_or_content,
        ),
        Flag(
            "--min-score",
            f"SCORE|{AUTO}",
            "nothing that is less near is shown; auto: nothing that queries which mean nothing score as well, as the "
            "root's own vectors tell",
            score_or_auto,
        ),
    ),
)


QUERY_FILE: Final = Flag(
    "--queries", "FILE", "vectors (.npy, .parquet), a column of a .csv, or texts, one a line (.txt)"
)
COLUMNS_OF_QUERIES: Final = (
    Flag("--vector-column", "NAME", "column of a .parquet with the vectors (default embedding)"),
    Flag("--text-column", "NAME", "column of a .csv with texts"),
    Flag("--image-column", "NAME", "column of a .csv with paths of pictures, relative to it, or URLs"),
)

BATCH: Final = (
    ROOT,
    Group(
        "BatchOptions",
        "What is looked for, and where the results go",
        (
            QUERY_FILE,
            Flag("--output", "FILE.parquet", "results: a row for each, query after query; a path or URL"),
            *COLUMNS_OF_QUERIES,
            Flag("--columns", "NAME,…", "columns of the rows that are found, beside their key"),
            WORKERS,
            Flag(
                "--slice-bytes",
                "SIZE",
                "a larger index on an object store is scanned in slices (8G)",
                size,
                default=8 << 30,
            ),
            *PROGRESS,
        ),
    ),
    CHANGES,
    ENCODER_OF_ROOT,
    DEVICE,
    RESULTS,
    RULES,
    TRUST,
)
"""Of `batch-search`."""


@dataclass(frozen=True)
class Query:
    """One query: a text, or what a picture, an item or a vector is called."""

    name: str
    kind: Literal["text", "picture", "item", "vector", "several"] = "text"


def check(options: Namespace) -> None:
    """Refuses what is no query, before anything is opened.

    Raises:
        UsageError: there is no query, one that is empty, or vectors beside others.
    """
    named = (("--image", options.image or ()), ("--like", options.like or ()), ("--not", getattr(options, "not") or ()))
    single = (("--vector", [options.vector]), ("--queries", [options.queries]), ("--html", [options.html]))
    for flag, values in (*named, *single):
        if any(value is not None and not value.strip() for value in values):  # an unset variable of the shell
            raise UsageError(f"{flag} is empty: name what it is about")
    encoded = bool(options.query or options.image or options.queries or options.like)
    if encoded == (options.vector is not None):
        raise UsageError(
            "give queries: texts, --image FILE, --like KEY, --queries FILE, or --vector FILE.npy alone; see pixdex "
            "search --help"
        )
    if options.weight and options.vector is not None:
        raise UsageError("--weight makes one query of texts, pictures and likes: leave --vector out")
    _texts(options.query)


def rules_of(options: Namespace) -> Rules:
    """Returns the rules that the options ask for.

    Raises:
        UsageError: no row could keep to them.
    """
    return Rules(options.group_by, options.per_group, options.dedup, options.min_score)


def kind_of(asked: Sequence[Query]) -> QueryKind | None:
    """Returns what all of the queries are; None: of several kinds, or nobody knows."""
    kinds = {query.kind for query in asked}
    return "text" if kinds == {"text"} else "image" if kinds and kinds <= {"picture", "item"} else None


def wanted_of(options: Namespace, modality: Modality | None, query_kind: QueryKind | None = None) -> Wanted:
    """Returns what the options want of answers.

    Raises:
        UsageError: no row could keep to the rules.
    """
    return Wanted(
        k=options.k,
        nprobe=options.nprobe,
        modality=modality,
        shortlist=options.shortlist,
        rules=rules_of(options),
        minus=tuple(getattr(options, "not") or ()),
        expand=options.expand,
        alpha=options.alpha,
        where=options.where,
        query_kind=query_kind,
    )


def queries_of(options: Namespace, count: int) -> list[Query]:
    """Returns what is looked for, in the order in which it is answered: texts, pictures, items; or `count` vectors.

    Raises:
        UsageError: a file cannot be read, or holds no text.
    """
    if options.vector is not None:
        names = [f"{options.vector}, row {row}" for row in range(count)] if count > 1 else [options.vector]
        return [Query(name, "vector") for name in names]
    texts = [*_texts(options.query), *(lines_of("--queries", options.queries) if options.queries is not None else ())]
    pictures = [Query(location, "picture") for location in options.image or ()]
    return [*map(Query, texts), *pictures, *(Query(key, "item") for key in options.like or ())]


def together(queries: Sequence[Query]) -> Query:
    """Returns the one query that several are made into."""
    return Query(" + ".join(query.name for query in queries), "several")


def read_vectors(file: str) -> NDArray[np.float32]:
    """Returns the vectors that a `.npy` file holds, float32 `(q, d)`: one, or one a row.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    path = path_of("--vector", file)
    try:
        if path.exists() and not path.is_file():  # a pipe would block for ever
            raise OSError("not a regular file")
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # hostile files raise anything: MemoryError, TokenError, BadZipFile
        why = normalised_message(error, is_named=True)
        raise UsageError(f"--vector {file} is not a readable .npy file: {why}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise UsageError(f"--vector {file} holds no array of numbers: write one with numpy.save")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise UsageError(f"--vector {file} holds an array of shape {array.shape}: give one vector, or one a row")
    with np.errstate(over="ignore"):
        vectors: NDArray[np.float32] = np.atleast_2d(array).astype(np.float32)
    return vectors


def path_of(flag: str, file: str) -> Path:
    """Returns the path that a flag names, `~` resolved.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return Path(file).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{flag} {file}: there is no such user: write ./~… for a file's name") from error


def lines_of(flag: str, file: str) -> list[str]:
    """Returns the lines of a file that a flag names, but for those with nothing in them.

    Raises:
        UsageError: it is no readable text in UTF-8, or all of its lines are empty.
    """
    path = path_of(flag, file)
    try:
        if path.exists() and not path.is_file():  # a pipe would block for ever
            raise OSError("not a regular file")
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = normalised_message(error, is_named=True)
        raise UsageError(f"{flag} {file} is not a readable text in UTF-8: {why}") from error
    if not any(line.strip() for line in lines):
        raise UsageError(f"{flag} {file} holds no text: write one a line")
    return [line.rstrip("\r") for line in lines if line.strip()]


def _texts(words: Sequence[str]) -> list[str]:
    """The texts of the command line: words without a space between them are one text, as they were typed."""
    if not words:
        return []
    texts = list(words) if any(len(word.split()) > 1 for word in words) else [" ".join(words)]
    if not all(text.strip() for text in texts):
        raise UsageError("the query is empty: say what to look for")
    return texts
