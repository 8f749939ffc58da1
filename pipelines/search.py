"""Searches an index with a text, a picture or a vector.

By text, with the encoder that the index was built with:

    pixdex search --root ./emoji "a red circle"

By picture, the twenty nearest, as a page of pictures too:

    pixdex search --root ./emoji --image photo.png -k 20 --html results.html

By a vector from elsewhere (float32, one row), as JSON for another program:

    pixdex search --root ./emoji --vector query.npy --json

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
"uri", "modality", "part", "caption", "columns"}]}. A search runs on this machine; no Beam runner takes part.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.terminal import command_line, console, text_table
from pipelines.terminal.flags import Flag, Group, positive, switch
from pipelines.terminal.options import DEVICE, ENCODER_OF_ROOT, ROOT, TRUST_URIS, root_of
from pipelines.terminal.text_table import Column
from transforms.encoders import trusted
from transforms.errors import PixdexError, UsageError
from transforms.records import EncoderSettings, Modality
from transforms.rejects import Failure, normalised_message
from transforms.search.hits import Hit
from transforms.search.searcher import Searcher
from transforms.storage import uris
from transforms.storage.outside import FLAG, Outside

if TYPE_CHECKING:
    from pipelines.terminal.result_page import Answer

_SCORES: Final = {"ip": "inner product", "l2": "squared distance", "l1": "L1 distance"}

OPTIONS: Final = (
    ROOT,
    Group(
        "QueryOptions",
        "What is looked for",
        (
            Flag("query", "TEXT", "words that describe it", nargs="*"),
            Flag("--image", "FILE", "a picture that it looks like: a path or URL"),
            Flag("--vector", "FILE.npy", "its vector, in the space of the index's encoder"),
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
    text = _one_query(options)
    searcher = Searcher.open(
        root_of(options), fast_scan=options.fast_scan, check=options.check, trust_uris=options.trust_uris
    )
    modality = _modality(searcher, options)
    vector = _query_vector(searcher, options, text)
    hits = searcher.search(vector[None], options.k, options.nprobe, modality)[0]
    generation = searcher.generation
    if options.html:
        from pipelines.terminal.result_page import Answer  # noqa: PLC0415 - reads pictures, and only pages show any

        answer = Answer(text or options.image or options.vector, hits, options.image and uris.absolute(options.image))
        write_page(_path("--html", options.html), searcher, [answer], trust_uris=options.trust_uris)
    if options.json:
        console.show_json({"generation": generation.generation, "results": [asdict(hit) for hit in hits]})
    elif hits:
        console.show(table(hits))
    else:
        console.say(f"nothing found among {generation.totals.vectors} vectors")
    if options.html:
        console.say(f"wrote {options.html}")
    return console.DONE


def default_modality(searcher: Searcher) -> Modality | None:
    """Returns what a text or a picture finds unless told otherwise: pictures, else texts, else anything."""
    if searcher.count("image"):
        return "image"
    return "text" if searcher.count("text") else None


def encode_text(settings: EncoderSettings, text: str) -> NDArray[np.float32]:
    """Returns the vector of a text, float32 `(d,)`.

    Raises:
        UsageError: the encoder takes pictures only.
    """
    if "text" not in settings.modalities:
        raise UsageError(
            f"encoder {settings.spec} of this index takes no texts, only pictures: search with --image FILE"
        )
    from transforms.tasks.embed.open_encoder import open_encoder  # noqa: PLC0415 - imports torch, and only this needs it

    vector: NDArray[np.float32] = open_encoder(settings).encoder.encode_texts([text])[0]
    return vector


def encode_picture(settings: EncoderSettings, location: str) -> NDArray[np.float32]:
    """Returns the vector of a picture, float32 `(d,)`, fitted as the pictures of the index were.

    Raises:
        UsageError: the encoder takes texts only, or the picture cannot be read.
    """
    if "image" not in settings.modalities:
        raise UsageError(f"encoder {settings.spec} of this index takes no pictures, only texts: search with a text")
    from transforms.tasks.embed.limits import USUAL  # noqa: PLC0415 - as the two below
    from transforms.tasks.embed.open_encoder import open_encoder  # noqa: PLC0415 - imports torch, and only this needs it
    from transforms.tasks.embed.picture_loader import PictureLoader  # noqa: PLC0415 - reads pictures

    encoder = open_encoder(settings).encoder
    try:
        uri = uris.absolute(location)
    except FileNotFoundError as error:
        raise UsageError(f"--image {location} is relative to a working directory that is gone") from error
    with PictureLoader(encoder, settings, USUAL) as loader:
        ((_, (picture,)),) = loader.batches([uri], 1)
    if isinstance(picture, Failure):
        raise UsageError(f"--image {location} is not a readable picture ({picture.type}): {picture.message}")
    vector: NDArray[np.float32] = encoder.encode_images(picture[0][None])[0]
    return vector


def read_vector(file: str) -> NDArray[np.float32]:
    """Returns the vector that a `.npy` file holds, float32 `(d,)`.

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
    if array.ndim == 2 and len(array) == 1:
        array = array[0]
    if array.ndim != 1:
        raise UsageError(f"--vector {file} holds an array of shape {array.shape}: give one vector")
    with np.errstate(over="ignore"):
        vector: NDArray[np.float32] = array.astype(np.float32)
    return vector


def table(hits: Sequence[Hit], width: int | None = None) -> str:
    """Returns results as a table: rank, score, then name, group or caption where there are any, and the URI.

    `width` None takes the terminal's; on no terminal nothing is cut.
    """
    named = any(hit.columns.get("name") for hit in hits)
    grouped = any(hit.columns.get("group") for hit in hits)
    worded = any(hit.caption for hit in hits) and (not named or any(hit.modality != "image" for hit in hits))
    columns = [Column("rank", "right"), Column("score", "right")]
    cells = [[str(hit.rank) for hit in hits], [f"{hit.score:.4f}" for hit in hits]]
    for wanted, heading in ((named, "name"), (grouped, "group")):
        if wanted:
            columns.append(Column(heading, cut="end"))
            cells.append([str(hit.columns.get(heading) or "") for hit in hits])
    if any(hit.modality != "image" for hit in hits):
        columns.append(Column("modality"))
        cells.append([hit.modality for hit in hits])
    if worded:
        columns.append(Column("caption", cut="end"))
        cells.append([hit.caption or "" for hit in hits])
    columns.append(Column("uri", cut="start"))
    cells.append([hit.place for hit in hits])
    return text_table.render(columns, list(zip(*cells, strict=True)), width or text_table.terminal_width())


def write_page(file: Path, searcher: Searcher, answers: Sequence["Answer"], *, trust_uris: bool = False) -> None:
    """Writes results as a page of pictures; says which of them are not read unless the root's URIs are trusted."""
    from pipelines.terminal import result_page  # noqa: PLC0415 - likewise

    generation = searcher.generation
    outside = Outside.of(generation.request, trusted=trust_uris)
    totals, trained = generation.totals, generation.trained
    normalised = generation.request.encoder.normalize
    result_page.write(
        file,
        answers,
        outside=outside,
        title="Search results",
        note=f"{totals.embedded:,} items · {totals.vectors:,} vectors · {trained.key} · "
        f"encoder {generation.request.encoder.spec}",
        nearest=_SCORES[trained.metric] if trained.metric != "ip" or not normalised else "cosine",
    )
    unread = result_page.unread(answers, outside)
    if unread:
        console.say(f"{len(unread)} pictures are not read, since {unread[0]}: if you trust the root, say {FLAG}")


def _one_query(options: Namespace) -> str:
    """Returns the text that is looked for; empty when it is a picture or a vector.

    Raises:
        UsageError: there is no query, more than one, or one that is empty or not readable.
    """
    if sum(map(bool, (options.query, options.image is not None, options.vector is not None))) != 1:
        raise UsageError("give one query: a text, --image FILE or --vector FILE.npy; see pixdex search --help")
    for flag, value in (("--image", options.image), ("--vector", options.vector), ("--html", options.html)):
        if value == "":  # an unset variable of the shell
            raise UsageError(f"{flag} is empty: name a file")
    text = " ".join(options.query)
    if options.query and not text.strip():
        raise UsageError("the query is empty: say what to look for")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the query {text!r} holds bytes that are no UTF-8: write it in UTF-8") from error
    return text


def _path(flag: str, file: str) -> Path:
    try:
        return Path(file).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{flag} {file}: there is no such user: write ./~… for a file's name") from error


def _modality(searcher: Searcher, options: Namespace) -> Modality | None:
    if options.modality is None:
        return None if options.vector else default_modality(searcher)
    if options.modality == "any":
        return None
    asked: Modality = options.modality
    if not searcher.count(asked):
        totals = searcher.generation.totals
        raise UsageError(
            f"--modality {asked}: this index has none, but {totals.images} images, {totals.texts} texts and "
            f"{totals.keywords} keywords"
        )
    return asked


def _query_vector(searcher: Searcher, options: Namespace, text: str) -> NDArray[np.float32]:
    request = searcher.generation.request
    settings = replace(request.encoder, device=options.device)
    if options.vector:
        return read_vector(options.vector)
    if request.is_ready:
        raise UsageError(
            "this index holds ready embeddings and knows no encoder: encode the query as they were made, and search "
            "with --vector FILE.npy"
        )
    trusted.check(settings.spec, options.encoder)
    try:
        return encode_picture(settings, options.image) if options.image else encode_text(settings, text)
    except PixdexError:
        raise
    except RuntimeError as error:  # torch: out of memory, a broken device
        raise PixdexError(f"encoder {settings.spec} failed on the query: {normalised_message(error)}") from error


if __name__ == "__main__":
    sys.exit(main())
