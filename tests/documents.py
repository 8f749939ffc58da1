"""What the documents of the repository show that can be looked up: commands, links, names of files, maps."""

import itertools
import re
import shlex
import textwrap
import unicodedata
from dataclasses import dataclass

from tests.conftest import REPOSITORY

FOLDERS = ("pipelines", "transforms", "tests", "deploy")
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(file for name in FOLDERS for file in (REPOSITORY / name).rglob("*.md"))]
)

_PROGRAMS = ("pixdex", "python", "bash")
_FENCED = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.DOTALL | re.M)
_RUN = "<!-- run -->"
"""What stands above a block that tests run."""

_OPERATORS = ("&&", "||", "|", ";")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        kind: its language, as `sh`; nothing where none is said.
        text: what is in it, not indented.
        line: of the document, where it begins.
        is_run: tests run it.
    """

    kind: str
    text: str
    line: int
    is_run: bool


@dataclass(frozen=True)
class Map:
    """A row of a map: a room, as a path relative to the document's folder, and the modules that it is said to have."""

    room: str
    modules: tuple[str, ...]


def commands_of(text: str) -> list[list[str]]:
    """Returns the words of every command in fenced shell that runs pixdex, Python or bash, wherever these lie.

    Continued lines are joined; what a pipe, a redirection or `&&` adds to a command is not of it.
    """
    commands = []
    for block in _FENCED.finditer(text):
        if block["kind"] != "sh":
            continue
        for line in block["text"].replace("\\\n", " ").splitlines():
            words = shlex.split(line.replace('"$(bash deploy/prism/install.sh)"', "prism"), comments=True)
            commands += [run for run in map(_without_environment, _parts(words)) if run]
    return commands


def blocks_of(text: str) -> list[Block]:
    """Returns the fenced blocks of a document."""
    return [
        Block(
            block["kind"],
            textwrap.dedent(block["text"]),
            text.count("\n", 0, block.start()) + 1,
            text[: block.start()].rstrip().endswith(_RUN),
        )
        for block in _FENCED.finditer(text)
    ]


def programs_of(script: str) -> list[list[str]]:
    """Returns the words of every command of a script, whatever its program, without what stands before and behind it.

    Lines that only give variables run no program; what is quoted is one word.
    """
    commands = []
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        words.whitespace_split, words.commenters = True, "#"
        parts = _parts(list(words))
        commands += [list(itertools.dropwhile(re.compile(r"[A-Z_]+=").match, part)) for part in parts]
    return [words for words in commands if words]


def links_of(text: str) -> list[str]:
    """Returns where the links and pictures of a document lead, those to other sites left out."""
    found = re.findall(r"\]\(([^)\s]+)\)", _FENCED.sub("", text))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors_of(text: str) -> set[str]:
    """Returns the names of a document's headings, as links spell them."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", text), re.M)
    return {_anchor(heading) for heading in headings}


def scripts_of(text: str) -> set[str]:
    """Returns what looks like the name of a Python file or a shell script, among words set as code that are no link."""
    return set(re.findall(r"`([\w./-]+\.(?:py|sh))`(?!\])", _FENCED.sub("", text)))


def maps_of(text: str) -> list[Map]:
    """Returns the rooms that the tables of a document list, with the modules named in the last cell of their row."""
    rows = re.findall(r"^\| (?:\[`([\w/]+)/`\]\([\w/]+\)|(this folder)) \|.*\| ([^|]*) \|$", text, re.M)
    return [Map(room, tuple(re.findall(r"`(\w+)`", modules))) for room, _, modules in rows]


def floors_of(text: str) -> list[set[str]]:
    """Returns the rooms of every floor that a document draws, from the roof to the ground: a line each, set apart."""
    drawn = re.search(r"^    pipelines .*\n    transforms (.*\n(?:     .*\n)+)", text, re.M)
    return [set(floor.split()) for floor in drawn[1].splitlines()] if drawn else []


def _parts(words: list[str]) -> list[list[str]]:
    """The commands among words; where one writes to is no word of it."""
    parts: list[list[str]] = [[]]
    is_place = False
    for word in words:
        if word in _OPERATORS:
            parts.append([])
        elif not is_place and word != ">":
            parts[-1].append(word)
        is_place = word == ">"
    return parts


def _without_environment(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if not words or (program := words[0].rpartition("/")[2]) not in _PROGRAMS:
        return []
    return [program, *words[1:]]


def _anchor(heading: str) -> str:
    kept = (letter for letter in heading.lower() if letter in " -_" or unicodedata.category(letter)[0] in "LN")
    return "".join(kept).replace(" ", "-")
