"""Shows everything at once, offline: draws pictures, builds their index and searches it.

    pixdex demo

    pixdex demo --dir ~/pixdex-demo

It draws 1,500 pictures of coloured shapes with a CSV that describes them, builds an index with the small encoder that
is shipped, searches by text and by picture, writes a page of the results, and ends with commands to go on with. It
takes less than a minute and needs no network. Run again in the same folder, it searches the index that is there.
"""

import contextlib
import csv
import io
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pipelines import build, search
from pipelines.terminal import command_line, console, process, result_page
from pipelines.terminal.flags import Flag, Group
from transforms.demo import write_corpus
from transforms.demo.corpus import COLUMNS
from transforms.demo.drawing import Scene, draw
from transforms.errors import UsageError
from transforms.generations import published
from transforms.queries.encode import QueryEncoder
from transforms.queries.root import modality_of
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

PICTURES: Final = 1500
SEED: Final = 2
QUERIES: Final = ("a red circle", "three small blue stars", "green heart on the left")
QUERY_SCENE: Final = Scene(colour="orange", shape="star", size="large", count=1, position="centre")

_SHOWN = 5
_ON_THE_PAGE = 12
_OWN = ("corpus", "index", "query.png", "results.html")
_UNFINISHED = ".corpus-"


OPTIONS: Final = (
    Group(
        "DemoOptions",
        "Where it happens",
        (Flag("--dir", "D", "folder (default ./pixdex-demo)", default="pixdex-demo"),),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: demo(arguments))


def demo(argv: Sequence[str]) -> int:
    """Draws, builds, searches, and says what to do next."""
    options = command_line.parse("demo", __doc__, argv, OPTIONS)
    started = time.monotonic()
    folder = folder_for(Path(options.dir).expanduser())
    table = corpus(folder)
    arguments = build_arguments(folder, table)
    if published.numbers(Store.at(str(folder / "index"))):
        console.say(f"[2/4] an index is there already, in {folder / 'index'}")
    else:
        console.say("[2/4] building the index:")
        console.say(f"      {shlex.join(['pixdex', 'build', *arguments])}")
    # The job's own last line is for programs; here it would stand between tables.
    with contextlib.redirect_stdout(io.StringIO()):
        code = build.main(arguments)
    if code:
        return code
    searcher = Searcher.open(Store.at(str(folder / "index")))
    page = show_results(searcher, folder)
    console.say(f"[4/4] wrote a page of all results: {page}")
    console.show(f"\nThat took {time.monotonic() - started:.0f} seconds. Go on with:\n\n{next_commands(folder)}")
    return console.DONE


def folder_for(wanted: Path) -> Path:
    """Returns the folder to work in: the one asked for, or one inside it where it holds other things. Deletes nothing.

    Raises:
        UsageError: there is no such place.
    """
    for folder in (wanted, wanted / "pixdex-demo"):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--dir {folder} is a file: name a folder")
        if _usable(folder):
            if folder != wanted:
                console.say(f"{wanted} holds other things: using {folder}")
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"--dir {folder} cannot be made ({error.strerror}): name another") from error
            return folder
    raise UsageError(f"--dir {wanted} and {wanted / 'pixdex-demo'} hold other things: name a new or empty folder")


def corpus(folder: Path) -> Path:
    """Returns the CSV of the corpus, which is drawn unless it is there."""
    table = folder / "corpus" / "corpus.csv"
    if table.is_file():
        console.say(f"[1/4] the pictures are there already, in {table.parent}")
        return table
    console.say(f"[1/4] drawing {PICTURES:,} pictures of coloured shapes into {table.parent}")
    with tempfile.TemporaryDirectory(dir=folder, prefix=_UNFINISHED) as temporary:
        unfinished = Path(temporary) / "corpus"
        write_corpus(unfinished, PICTURES, SEED)
        unfinished.rename(table.parent)  # whole, or not there: an interrupted demo starts again
    return table


def build_arguments(folder: Path, table: Path) -> list[str]:
    """Returns the words after `pixdex build`."""
    return [
        *("--root", str(folder / "index"), "--csv", str(table), "--key-column", "name"),
        *("--image-column", "image", "--text-column", "description", "--encoder", "demo"),
    ]


def show_results(searcher: Searcher, folder: Path) -> Path:
    """Searches by text and by picture, prints tables and writes the page; returns its path."""
    encoder = QueryEncoder(searcher.generation.request)
    modality = modality_of(searcher, None, is_vector=False)
    console.say("[3/4] searching by text and by picture")
    answers = []
    for query in QUERIES:
        vectors = encoder.texts([query])
        answers.append(result_page.Answer(query, searcher.search(vectors, _ON_THE_PAGE, modality=modality)[0]))
    picture = folder / "query.png"
    # Drawn afresh, so that it is not among the pictures of the corpus.
    draw(QUERY_SCENE, np.random.default_rng(SEED)).save(picture)
    vectors = encoder.pictures([str(picture)])
    hits = searcher.search(vectors, _ON_THE_PAGE, modality=modality)[0]
    answers.append(result_page.Answer("a picture that was not indexed", hits, f"file://{picture.absolute()}"))
    for answer in answers:
        asked = f'"{answer.query}"' if answer.picture is None else f"the picture {picture}"
        console.show(f"\n{asked}\n{search.table(answer.hits[:_SHOWN])}")
    console.show("")
    page = folder / "results.html"
    search.write_page(page, searcher, answers)
    return page


def next_commands(folder: Path) -> str:
    """Returns commands to paste."""
    root = str(folder / "index")
    commands = (
        ["search", "--root", root, "two yellow triangles"],
        ["search", "--root", root, "--image", str(folder / "query.png"), "-k", "20", "--html", "found.html"],
        ["inspect", "--root", root],
        ["build", "--root", "my-index", "--images", "PATH/TO/PICTURES", "--encoder", _REAL_ENCODER],
    )
    return "\n".join(f"    {shlex.join([_program(), *command])}" for command in commands)


def _program() -> str:
    """How to call pixdex again: by its name, or as it was called when it is not on the PATH."""
    called = sys.argv[0]
    return called if Path(called).name == "pixdex" and shutil.which("pixdex") is None else "pixdex"


_REAL_ENCODER: Final = "open_clip:ViT-B-32/laion2b_s34b_b79k"


def _usable(folder: Path) -> bool:
    """Whether a folder is new, empty, or an earlier demo's."""
    if not folder.exists():
        return True
    try:
        names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise UsageError(f"--dir {folder} cannot be read ({error.strerror}): name another") from error
    if all(name in _OWN or name.startswith(_UNFINISHED) for name in names) and (
        "index" not in names or "corpus" in names
    ):
        return not (folder / "corpus").exists() or _drawn(folder)
    return _drawn(folder)


def _drawn(folder: Path) -> bool:
    try:
        with (folder / "corpus" / "corpus.csv").open(encoding="utf-8", newline="") as stream:
            return next(csv.reader(stream), []) == list(COLUMNS)
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    process.run(main)
