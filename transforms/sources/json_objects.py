"""JSON objects whose fields are columns, by strict readers: nothing that could be read in two ways, or not kept.

Numbers stay as they are spelled, nested values are their JSON text. An object is read twice, since only one reader
keeps how values are spelled and only the other sees a name that is there twice.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import msgspec

Fields = dict[str, tuple[Any, str | None]]
"""Of each field its value, and how that is spelled; null: None."""

_FIELDS_OF: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class BadObjectError(ValueError):
    """What is wrong with an object, as `Type: message`."""


class ObjectReader:
    """Reads objects that messages call by a word, such as `line`."""

    def __init__(self, what: str) -> None:
        """Reads nothing yet."""
        self._what = what
        self._reader = json.JSONDecoder(
            object_pairs_hook=self._pairs, parse_int=_number, parse_float=_number, parse_constant=_constant
        )

    def read(self, data: bytes) -> Fields:
        """Returns the fields of an object.

        Raises:
            BadObjectError: it is none, or could be read in two ways.
        """
        what = self._what
        try:
            values = self._reader.decode(data.decode())
            if not isinstance(values, dict):
                raise BadObjectError(f"NoObject: the {what} is {_kind(values)}, and no object")
            spelled = _FIELDS_OF.decode(data)
            return {name: (value, _cell(name, value, spelled)) for name, value in values.items()}
        except BadObjectError:
            raise
        except msgspec.DecodeError as error:  # it is stricter with what Python's reader took
            half = b"\\ud" in data.lower()
            why = f"LoneSurrogate: a text of the {what} has half of a character" if half else f"BadJson: {error}"
            raise BadObjectError(why) from error
        except UnicodeDecodeError as error:
            raise BadObjectError(f"NotUtf8: byte {error.start + 1} of the {what} is not UTF-8") from error
        except RecursionError as error:
            raise BadObjectError(f"TooDeep: the values of the {what} are nested too deeply") from error
        except ValueError as error:
            raise BadObjectError(f"BadJson: {str(error)[:120]}") from error

    def check_texts(self, fields: Fields, texts: Sequence[str], keywords: str | None) -> None:
        """Refuses fields that are to be embedded, and are neither texts nor, of keywords, lists of them.

        Raises:
            BadObjectError: naming one.
        """
        for name in (*texts, *filter(None, [keywords])):
            value = fields.get(name, (None, None))[0]
            if isinstance(value, list | dict) and not (name == keywords and _are_strings(value)):
                raise BadObjectError(f"NoText: the field {name[:60]} is {_kind(value)}, and no text")

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            double = next(name for name in found if names.count(name) > 1)
            raise BadObjectError(f"DoubleName: the {self._what} has the field {double[:60]!r} twice")
        return found


def _cell(name: str, value: Any, spelled: Mapping[str, msgspec.Raw]) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and not isinstance(value, _Number):
        return value
    return bytes(spelled[name]).decode().strip()


class _Number(str):
    """A number as it is spelled."""

    __slots__ = ()


def _number(text: str) -> _Number:
    if float(text) in (float("inf"), float("-inf")):
        raise BadObjectError(f"HugeNumber: {text[:20]}… is more than a number can be")
    return _Number(text)


def _constant(text: str) -> NoReturn:
    raise BadObjectError(f"BadJson: {text} is no JSON")


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and not isinstance(one, _Number) for one in value)


def _kind(value: Any) -> str:
    kinds = ((bool, "true or false"), (_Number, "a number"), (str, "a text"), (list, "a list"), (dict, "an object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")
