"""Options as a file: what `--print-config` shows."""

import re
from collections.abc import Mapping, Sequence

from pipelines.terminal.config import secrets
from pipelines.terminal.config.reader import BEAM, LONGEST, key_of
from pipelines.terminal.flags import Flag, Group
from transforms.errors import UsageError


def text_of(job: str, groups: Sequence[Group], given: Mapping[str, Sequence[str]], others: Sequence[str]) -> str:
    """Returns a file that says what a command line says, with the defaults of what it does not say.

    Args:
        job: name of the command.
        groups: its flags.
        given: values of each flag that is given, as they were written, by its name; none for a flag without a value.
        others: Beam's words.

    Raises:
        UsageError: a password or a key would stand in it.
    """
    lines = [f"# pixdex {job} --config FILE\n"]
    for group in groups:
        entries = []
        for flag in group.flags:
            values = _effective(flag, given.get(flag.name))
            if values:
                _check(flag.name, flag, values)
                entries.append(_entry(key_of(flag.name), values))
        if entries:
            lines += [f"\n# {group.title}\n", *entries]
    if beam := beam_values(others):
        lines.append(f"\n# Flags of Beam\n{BEAM}:\n")
        for name, values in beam.items():
            _check(f"--{name}", None, values)
            lines.append("".join(f"  {line}\n" for line in _entry(name, values).splitlines()))
    return "".join(lines)


def beam_values(words: Sequence[str]) -> dict[str, list[object]]:
    """Returns the values of each flag among words that are Beam's, by its name with underscores; True: it has none.

    >>> beam_values(["--runner", "FlinkRunner", "--streaming", "--experiments=a", "--experiments", "b"])
    {'runner': ['FlinkRunner'], 'streaming': [True], 'experiments': ['a', 'b']}
    """
    found: dict[str, list[object]] = {}
    waiting = None
    for word in words:
        if word.startswith("--") and len(word) > len("--"):
            flag, given, value = word[2:].partition("=")
            name = flag.replace("-", "_")
            found.setdefault(name, []).append(_plain(value) if given else True)
            waiting = None if given else name
        elif waiting is not None:
            found[waiting][-1] = _plain(word)
            waiting = None
    return found


def _effective(flag: Flag, texts: Sequence[str] | None) -> list[object]:
    """What a file says of a flag, given or not."""
    if flag.action == "store_true":
        return [True] if texts is not None else []
    if texts is None:
        default = flag.default_text
        return [] if default is None else [_plain(default)]
    return [_plain(text) for text in texts]


def _plain(text: str) -> object:
    """A value that YAML writes as the text is: a number where that gives the same letters again."""
    if re.fullmatch(r"0|-?[1-9]\d{0,17}", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?(0|[1-9]\d{0,8})\.\d{0,8}[1-9]", text) and str(float(text)) == text else text


def _entry(name: str, values: Sequence[object]) -> str:
    import yaml  # noqa: PLC0415 - a quarter of what --help may take, and only this needs it

    said = {name: values[0] if len(values) == 1 else list(values)}
    # Letters as they are, but for what a line of YAML would not keep, such as U+0085, which some take for its end.
    is_seen = all(str(value).isprintable() for value in values)
    return str(yaml.safe_dump(said, allow_unicode=is_seen, width=LONGEST, default_flow_style=False))


def _check(name: str, flag: Flag | None, values: Sequence[object]) -> None:
    if secrets.is_secret(name, flag) or any(secrets.holds_secret(str(value)) for value in values):
        raise UsageError(f"{name} holds a secret, and {secrets.WAY_OUT}")
