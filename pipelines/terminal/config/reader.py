"""Reads a file of options for a command.

Keys are names of flags without the dashes before them. A section that is called after a command is read by that command
alone, and `beam` has the flags of Beam. YAML is read for where things stand; a value is the text that stands there, as
on the command line, and the type of its flag reads it.
"""

import argparse
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pipelines
from pipelines.terminal.config import secrets
from pipelines.terminal.flags import Flag, Group
from transforms.errors import UsageError
from transforms.nearest import guess

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node, ScalarNode

BEAM: Final = "beam"
LONGEST: Final = 1 << 20
"""Bytes of a file."""

_NO_COMMANDS: Final = frozenset({"__main__", "cli", "worker_pool"})
_OF_A_BUILD: Final = frozenset({"embed", "train", "add", "merge"})
"""Commands that read the section of `build`, too: one of their own goes before it."""

_PLAIN: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "timestamp", "bool"))
_BOOL: Final = "tag:yaml.org,2002:bool"
_NULL: Final = "tag:yaml.org,2002:null"
_LIST: Final = "tag:yaml.org,2002:seq"
_TRUE: Final = frozenset({"true", "yes", "on"})
_UNDECODED: Final = re.compile(rb"\\(?:u|U0000)[dD][89a-fA-F]")
"""A surrogate, as YAML writes it, which is how Python has a byte that is no text."""
_TOO_DEEP: Final = "{} is nested too deeply: write an option a line"

Values = tuple[str | None, ...]
"""Of a flag, as they are written; None: the flag stands alone."""


@dataclass(frozen=True)
class Given:
    """What a file gives for one flag.

    Attributes:
        key: as it is written there.
        place: file and line, `pixdex.yaml:12`.
        values: of its flag; none: it says that a flag without a value is off.
    """

    key: str
    place: str
    values: Values


@dataclass(frozen=True)
class Config:
    """What a file says to one command.

    Attributes:
        flags: by the name of the flag, `--image-column`, or of bare words, `query`.
        beam: likewise for Beam's, by their names with underscores.
    """

    flags: Mapping[str, Given] = field(default_factory=dict)
    beam: Mapping[str, Given] = field(default_factory=dict)

    def words(self, besides: frozenset[str]) -> tuple[list[str], list[str], dict[str, str]]:
        """Returns bare words, flags as words of a command line, and where each of Beam's among them stands.

        Args:
            besides: names of flags, and of Beam's with underscores, that a command line gives: it goes first.
        """
        bare: list[str] = []
        words: list[str] = []
        places: dict[str, str] = {}
        for name, given in self.flags.items():
            if name not in besides:
                into = words if name.startswith("-") else bare
                into += (word for value in given.values for word in _words(name, value))
        for name, given in self.beam.items():
            if name not in besides:
                for value in given.values:
                    (word,) = _words(f"--{name}", value)
                    words.append(word)
                    places[word] = given.place
        return bare, words, places


def read(file: str, job: str, flags: Mapping[str, Flag], *, known_elsewhere: frozenset[str]) -> Config:
    """Reads a file of options for a command.

    Args:
        file: its path.
        job: name of the command.
        flags: those of the command, by their names.
        known_elsewhere: names of flags of other commands, which may stand above all sections and say nothing here.

    Raises:
        UsageError: the file cannot be read, is no YAML, or holds what no flag takes, with the line where it stands.
    """
    import yaml  # noqa: PLC0415 - a quarter of what --help may take, and only a file needs it

    text = _text_of(file)
    try:
        # libyaml, where PyYAML has it, is ten times as fast, but refuses bytes of a path that are no text.
        loader = yaml.SafeLoader if _UNDECODED.search(text) else getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        node = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        if error.problem == "exceeded maximum nesting depth":  # what libyaml says before a RecursionError could
            raise UsageError(_TOO_DEEP.format(file)) from error
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}" if mark is not None else file
        raise UsageError(f"{place}: this is no YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{file} is no YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise UsageError(_TOO_DEEP.format(file)) from error
    if node is None or node.tag == _NULL:
        return Config()
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{file}:{node.start_mark.line + 1}: write options a line each, as root: ./photos")
    return _Reader(file, job, flags, known_elsewhere).config(node)


def names_of(groups: Sequence[Group]) -> dict[str, Flag]:
    """Returns the flags of a command by their names."""
    return {flag.name: flag for group in groups for flag in group.flags}


def key_of(name: str) -> str:
    """Returns the key of a flag."""
    return name.lstrip("-")


@dataclass(frozen=True)
class _Reader:
    """Takes a file apart for one command."""

    file: str
    job: str
    flags: Mapping[str, Flag]
    known_elsewhere: frozenset[str]

    def config(self, root: "MappingNode") -> Config:
        """Reads levels one after another, of which the nearest to the command goes before the others."""
        sections = {section.replace("_", "-"): section for section in commands()}
        flags: dict[str, Given] = {}
        beam: dict[str, Given] = {}
        own: dict[str, MappingNode] = {}
        for key, node in self._entries(root):
            name = key.value.replace("_", "-")
            if name == BEAM:
                beam = self._beam(self._section(key, node))
            elif name in sections:
                own[name] = self._section(key, node)
                self._look_over(own[name])
            elif (found := self._flag(key, node, elsewhere=True)) is not None:
                self._take(found, flags, key)
        for name in ("build", self.job) if self.job in _OF_A_BUILD else (self.job,):
            if name in own:
                level: dict[str, Given] = {}
                for key, node in self._entries(own[name]):
                    if (found := self._flag(key, node, elsewhere=False)) is not None:
                        self._take(found, level, key)
                flags |= level
        return Config(flags, beam)

    def _take(self, found: tuple[str, Given], level: dict[str, Given], key: "ScalarNode") -> None:
        name, given = found
        if name in level:
            self._refuse(key, f"{key.value} is given twice: {level[name].place} says {level[name].key}")
        level[name] = given

    def _beam(self, node: "MappingNode") -> dict[str, Given]:
        found = {}
        for key, value in self._entries(node):
            self._not_secret(key, None, value)
            values = self._values(key, value, may_be_alone=True, several=True)
            found[key.value.replace("-", "_")] = Given(key.value, self._place(key), values)
        return found

    def _flag(self, key: "ScalarNode", node: "Node", *, elsewhere: bool) -> tuple[str, Given] | None:
        """What a key and its value say; None: nothing to this command."""
        written = key.value.replace("_", "-")
        bare = "" if written.startswith("-") else written
        spellings = (f"-{written}" if len(written) == 1 else f"--{written}", bare)
        name = next((spelling for spelling in spellings if spelling in self.flags), None)
        opposite = None if name else self._opposite(written)
        flag = self.flags.get(name or opposite or "")
        self._not_secret(key, flag, node)
        if flag is None:
            if elsewhere and not {*spellings, f"--no-{written}"}.isdisjoint(self.known_elsewhere):
                return None
            self._refuse(key, f"unknown option {key.value}{self._guess(written)}")
        if flag.action == "store_true":
            is_on = self._is_true(key, node) != (opposite is not None)
            return flag.name, Given(key.value, self._place(key), (None,) if is_on else ())
        several = flag.action == "append" or flag.nargs == "*"
        values = self._values(key, node, may_be_alone=flag.nargs == "?", several=several)
        for value in values:
            self._check(key, flag, value)
        return flag.name, Given(key.value, self._place(key), values)

    def _opposite(self, written: str) -> str | None:
        """The flag that a key is the opposite of: `normalize` is that of --no-normalize, and the other way round."""
        for name in (f"--no-{written}", f"--{written.removeprefix('no-')}"):
            if name in self.flags and self.flags[name].action == "store_true":
                return name
        return None

    def _check(self, key: "ScalarNode", flag: Flag, value: str | None) -> None:
        if value is None:
            return
        try:
            read = flag.type(value)
        except argparse.ArgumentTypeError as error:
            self._refuse(key, f"{key.value}: {error}; see pixdex {self.job} --help")
        except (TypeError, ValueError):
            self._refuse(key, f"{key.value}: {value!r} is no value of it; see pixdex {self.job} --help")
        if flag.choices is not None and read not in flag.choices:
            none_of = f"{value!r} is none of {', '.join(flag.choices)}"
            self._refuse(key, f"{key.value}: {none_of}{guess(value, flag.choices)}")

    def _values(self, key: "ScalarNode", node: "Node", *, may_be_alone: bool, several: bool) -> Values:
        if node.id == "mapping":
            self._refuse(key, f"{key.value} holds a section: give it a value; sections are {', '.join(commands())}")
        if node.id == "sequence":
            if not several:
                self._refuse(key, f"{key.value} takes one value, and is given a list")
            if node.tag != _LIST:
                self._refuse(node, f"{key.value} has a tag: write its values alone")
            return tuple(value for each in node.value for value in self._value(key, each, may_be_alone=may_be_alone))
        return tuple(self._value(key, node, may_be_alone=may_be_alone))

    def _value(self, key: "ScalarNode", node: "Node", *, may_be_alone: bool) -> Iterator[str | None]:
        if node.id != "scalar":
            self._refuse(node, f"{key.value} takes values, and no list or section within a list")
        if node.tag == _NULL:
            self._refuse(node, f"{key.value} has no value: give one, or leave it out")
        if node.tag not in _PLAIN:
            self._refuse(node, f"{key.value} has a tag: write the value alone")
        if "\0" in node.value:
            self._refuse(node, f"{key.value} holds the character 0, which no word of a command line has: leave it out")
        if may_be_alone and node.tag == _BOOL:
            if node.value.lower() in _TRUE:
                yield None
        else:
            yield node.value

    def _is_true(self, key: "ScalarNode", node: "Node") -> bool:
        if node.id != "scalar" or node.tag != _BOOL:
            self._refuse(key, f"{key.value} is either true or false")
        return node.value.lower() in _TRUE

    def _section(self, key: "ScalarNode", node: "Node") -> "MappingNode":
        if node.id == "scalar" and node.tag == _NULL:  # nothing below its name
            node = _empty(node)
        if node.id != "mapping":
            self._refuse(key, f"{key.value} is a section: write its options below it, indented")
        return node

    def _look_over(self, node: "MappingNode") -> None:
        """Refuses what no section may hold, of whatever command: what its keys mean is looked at by that one."""
        for key, value in self._entries(node):
            self._not_secret(key, None, value)

    def _entries(self, node: "MappingNode") -> Iterator[tuple["ScalarNode", "Node"]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            if key.id != "scalar" or key.tag not in _PLAIN:
                self._refuse(key, "a key is the name of a flag without its dashes")
            name = key.value.replace("_", "-")
            if name in seen:
                self._refuse(key, f"{key.value} is given twice: line {seen[name]} has it, too")
            seen[name] = key.start_mark.line + 1
            yield key, value

    def _not_secret(self, key: "ScalarNode", flag: Flag | None, node: "Node") -> None:
        if secrets.is_secret(key.value, flag):
            self._refuse(key, f"{key.value} looks like a secret, and {secrets.WAY_OUT}")
        for each in node.value if node.id == "sequence" else [node]:
            if each.id == "scalar" and secrets.holds_secret(each.value):
                self._refuse(each, f"{key.value} has a secret in its URL, and {secrets.WAY_OUT}")

    def _guess(self, written: str) -> str:
        names = [key_of(name) for name in self.flags]
        known = [*names, *(name.removeprefix("no-") for name in names), *commands(), BEAM]
        return guess(written, known) or (
            f": pixdex {self.job} has none; what only another command has stands in a section of its name"
        )

    def _place(self, node: "Node") -> str:
        return f"{self.file}:{node.start_mark.line + 1}"

    def _refuse(self, node: "Node", why: str) -> NoReturn:
        raise UsageError(f"{self._place(node)}: {why}")


def _text_of(file: str) -> bytes:
    try:
        with Path(file).expanduser().open("rb") as stream:
            text = stream.read(LONGEST + 1)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"--config {file} cannot be read ({why}): name a file of options") from error
    if len(text) > LONGEST:
        raise UsageError(f"--config {file} has more than {LONGEST >> 20} MiB: name a file of options")
    return text


def _empty(node: "Node") -> Any:
    import yaml  # noqa: PLC0415 - as above

    return yaml.MappingNode("tag:yaml.org,2002:map", [], node.start_mark, node.end_mark)


def commands() -> list[str]:
    """Names of commands: each is a module of the package, which need not be imported to know that."""
    modules = pkgutil.iter_modules(pipelines.__path__)
    return [name.replace("_", "-") for _, name, is_room in modules if not is_room and name not in _NO_COMMANDS]


def _words(name: str, value: str | None) -> list[str]:
    if not name.startswith("-"):
        return [] if value is None else [value]
    if value is None:
        return [name]
    return [f"{name}={value}"] if name.startswith("--") else [name, value]
