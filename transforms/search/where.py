"""Conditions over metadata, as SQL: parsed by sqlglot, and evaluated on columns of Arrow, which touch nothing else.

What is understood is listed here, and all else is refused by name, so that a condition runs no query, reads no file and
ends. Comparisons are SQL's: with NULL they are neither true nor false, and a row is found where the condition is true.
Columns of a CSV are strings: beside a number or a date one is read as such, and is NULL where it is none.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from numpy.typing import NDArray
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError, TokenError

from transforms.errors import UsageError

MOST_LETTERS: Final = 10_000
MOST_DEEP: Final = 100
"""Parts inside parts; what is deeper is not written by a person."""

_NUMBER: Final = r"^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"
_TIMES: Final = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
_TIME: Final = pa.timestamp("us")
_KINDS: Final[dict[str, pa.DataType]] = {
    **dict.fromkeys(("INT", "BIGINT", "SMALLINT", "TINYINT", "FLOAT", "DOUBLE", "DECIMAL"), pa.float64()),
    **dict.fromkeys(("DATE", "TIMESTAMP"), _TIME),
    **dict.fromkeys(("VARCHAR", "TEXT", "CHAR"), pa.string()),
    "BOOLEAN": pa.bool_(),
}
_How = Callable[[exp.Expr, "_Columns"], Any]
"""Makes a value of a part and of the columns."""


class Condition:
    """A condition, parsed: `columns` are the names of those that it needs, as they are written."""

    def __init__(self, text: str) -> None:
        """Parses it.

        Raises:
            UsageError: it is no condition, or has a part that is not understood.
        """
        self.text = text
        if len(text) > MOST_LETTERS:
            raise UsageError(f"the condition has {len(text):,} letters: write it in {MOST_LETTERS:,}")
        if "\0" in text or any(0xD800 <= ord(letter) < 0xE000 for letter in text):
            raise UsageError(f"the condition {_short(text)} holds what is no text")
        try:
            tree = sqlglot.parse_one(text, into=exp.Condition, dialect="duckdb")
        except (SqlglotError, RecursionError, ValueError) as error:
            raise UsageError(f"the condition {_short(text)} is not understood{_where_wrong(error)}") from error
        _check(tree, MOST_DEEP)
        self._tree = tree
        self.columns = frozenset(column.name for column in tree.find_all(exp.Column))

    def matches(self, columns: Mapping[str, pa.Array], rows: int) -> NDArray[np.bool_]:
        """Tells for which of some rows it is true, bool `(rows,)`; a column that is not there is NULL.

        Raises:
            UsageError: parts do not go together, such as a text that is added to a number.
        """
        if not rows:
            return np.zeros(0, np.bool_)
        try:
            found = _truth(_value(self._tree, _Columns(columns, rows)))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            why = str(error).splitlines()[0][:200]
            raise UsageError(f"the condition {_short(self.text)} cannot be evaluated: {why}") from error
        if isinstance(found, pa.Scalar):
            return np.full(rows, found.as_py() is True)
        is_true: NDArray[np.bool_] = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
        return is_true


def _where_wrong(error: Exception) -> str:
    """How a refusal goes on, in words that name no class of the parser: near which word the text goes wrong."""
    if isinstance(error, RecursionError):
        return ": it is nested too deeply"
    if isinstance(error, TokenError):
        return ": a quote or a comment in it does not end"
    found = error.errors[0] if isinstance(error, ParseError) and error.errors else {}
    near = str(found.get("highlight") or "").strip()
    if not near:
        return f": use {_UNDERSTOOD}"
    is_short = str(found.get("description")).startswith(("Required keyword", "Expecting"))
    return f": something is missing at {_short(near)}" if is_short else f": {_short(near)} is not expected there"


class _Columns:
    """The columns of some rows by their names, in any case of letters where no other has that name."""

    def __init__(self, columns: Mapping[str, pa.Array], rows: int) -> None:
        self._columns, self._rows = columns, rows
        self._folded = {name.lower(): name for name in columns}

    def of(self, column: exp.Expr) -> Any:
        name = column.name if column.name in self._columns else self._folded.get(column.name.lower())
        if name is None or (column.this.quoted and name != column.name):
            return pa.nulls(self._rows, pa.string())
        values = self._columns[name]
        return values.cast(_TIME) if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type) else values


def _check(node: exp.Expr, depth: int) -> None:
    """Refuses parts that are not understood, before anything is read."""
    if depth == 0:
        raise UsageError(f"the condition has more than {MOST_DEEP} parts inside each other: write it flatter")
    if type(node) not in _HOW and not isinstance(node, exp.Identifier):
        raise UsageError(f"a condition has no {node.key.upper()} ({_short(node.sql())}): use {_UNDERSTOOD}")
    if isinstance(node, exp.Column) and node.table:
        raise UsageError(f"{node.sql()}: name a column alone, in double quotes if there is a dot in it")
    if isinstance(node, exp.In) and node.args.get("expressions") is None:
        raise UsageError("IN takes a list of values in parentheses")
    if isinstance(node, exp.Cast) and node.to.this.name not in _KINDS:
        raise UsageError(f"{node.to.sql()} is no type that is known here: take one of {', '.join(_KINDS)}")
    for name, parts in node.args.items():
        if parts and name not in _PARTS.get(type(node), _TWO):
            raise UsageError(f"{_short(node.sql())} has a part that is not understood here ({name}): write it without")
        for part in parts if isinstance(parts, list) else [parts]:
            if isinstance(part, exp.Expr) and name != "to":
                _check(part, depth - 1)


_TWO: Final = frozenset({"this", "expression"})
_PARTS: Final[dict[type[exp.Expr], frozenset[str]]] = {
    **dict.fromkeys((exp.Column, exp.Boolean, exp.Lower, exp.Upper, exp.Length, exp.Trim), frozenset({"this"})),
    **dict.fromkeys((exp.In, exp.Coalesce), frozenset({"this", "expressions"})),
    **dict.fromkeys((exp.Cast, exp.TryCast), frozenset({"this", "to", "safe"})),
    exp.Div: frozenset({"this", "expression", "safe", "typed"}),
    **dict.fromkeys((exp.Like, exp.ILike), frozenset({"this", "expression", "negate"})),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Identifier: frozenset({"this", "quoted"}),
}
"""What each part may have: what the parser knows and this does not must not be passed over.

`safe` and `typed` are what its dialect says of all casts and divisions: NULL where there is no result.
"""

_UNDERSTOOD: Final = (
    "=, <>, <, <=, >, >=, AND, OR, NOT, IN, BETWEEN, LIKE, ILIKE, IS NULL, + - * / %, lower, upper, length, trim, abs, "
    "coalesce, CAST and DATE '…'"
)


def _value(node: exp.Expr, columns: _Columns) -> Any:
    """Returns what a part is: an array of Arrow with a value a row, or a scalar."""
    return _HOW[type(node)](node, columns)


def _numbers(node: exp.Expr, columns: _Columns) -> list[Any]:
    parts = (node.args.get("this"), node.args.get("expression"))
    return [_to(_value(part, columns), pa.float64()) for part in parts if part is not None]


def _comparing(name: str) -> _How:
    return lambda node, columns: _compared(name, _value(node.this, columns), _value(node.expression, columns))


def _computing(compute: Callable[..., Any]) -> _How:
    return lambda node, columns: compute(*_numbers(node, columns))


def _joining(join: Callable[..., Any]) -> _How:
    return lambda node, columns: join(*(_truth(_value(part, columns)) for part in (node.this, node.expression)))


def _of_strings(change: Callable[..., Any]) -> _How:
    return lambda node, columns: change(_to(_value(node.this, columns), pa.string()))


def _mod(one: Any, other: Any) -> Any:
    return pc.subtract(one, pc.multiply(pc.trunc(pc.divide(one, _not_zero(other))), other))


def _in(node: exp.Expr, columns: _Columns) -> Any:
    value = _value(node.this, columns)
    return _any([_compared("equal", value, _value(part, columns)) for part in node.args["expressions"]])


def _between(node: exp.Expr, columns: _Columns) -> Any:
    value = _value(node.this, columns)
    above = _compared("greater_equal", value, _value(node.args["low"], columns))
    return pc.and_kleene(above, _compared("less_equal", value, _value(node.args["high"], columns)))


def _coalesce(node: exp.Expr, columns: _Columns) -> Any:
    return pc.coalesce(*_alike([_value(part, columns) for part in (node.this, *node.args["expressions"])]))


def _cast(node: exp.Expr, columns: _Columns) -> Any:
    name = node.args["to"].this.name
    value = _to(_value(node.this, columns), _KINDS[name])
    if name == "DATE":
        return pc.floor_temporal(value, unit="day")
    return pc.round(value, round_mode="half_towards_infinity") if name.endswith("INT") else value


def _literal(node: exp.Expr, _: _Columns) -> Any:
    text = str(node.this)
    if node.is_string:
        return pa.scalar(text)
    if text.isascii() and text.isdigit() and int(text) < 1 << 63:
        return pa.scalar(int(text))
    return pa.scalar(float(text))


def _is(node: exp.Expr, columns: _Columns) -> Any:
    value, what = _value(node.this, columns), node.args["expression"]
    if isinstance(what, exp.Null):
        return pc.is_null(value)
    if isinstance(what, exp.Boolean):
        return pc.fill_null(pc.equal(_truth(value), bool(what.this)), False)
    raise UsageError(f"IS takes NULL, TRUE or FALSE, not {what.sql()}")


def _like(node: exp.Expr, columns: _Columns) -> Any:
    pattern = _value(node.args["expression"], columns)
    if not isinstance(pattern, pa.Scalar) or not pa.types.is_string(pattern.type):
        raise UsageError("LIKE takes a pattern in single quotes")
    if pattern.as_py() is None:
        return pa.scalar(None, pa.bool_())
    value = _to(_value(node.this, columns), pa.string())
    found = pc.match_like(value, pattern.as_py(), ignore_case=isinstance(node, exp.ILike))
    return pc.invert(found) if node.args.get("negate") else found


def _any(found: list[Any]) -> Any:
    together = found[0]
    for one in found[1:]:
        together = pc.or_kleene(together, one)
    return together


def _compared(name: str, one: Any, other: Any) -> Any:
    return getattr(pc, name)(*_alike([one, other]))


def _alike(values: list[Any]) -> list[Any]:
    """Brings values to one type: strings beside numbers, dates or truths are read as these."""
    kinds = {str(value.type): value.type for value in values}
    others = [kind for kind in kinds.values() if not _is_string(kind)]
    if len(kinds) == 1 or not others:
        return [_to(value, pa.string()) for value in values] if not others else values
    if all(pa.types.is_integer(kind) for kind in kinds.values()):
        return [value.cast(pa.int64()) for value in values]
    first = others[0]
    return [
        _to(value, _TIME if pa.types.is_timestamp(first) else first if first == pa.bool_() else pa.float64())
        for value in values
    ]


def _truth(value: Any) -> Any:
    return _to(value, pa.bool_())


def _to(value: Any, kind: pa.DataType) -> Any:
    """Returns a value as another type; NULL where it cannot be one."""
    if value.type == kind:
        return value
    if _is_string(value.type) and not pa.types.is_null(value.type):
        return _read_as(value.cast(pa.string()), kind)
    if kind == pa.string() and pa.types.is_timestamp(value.type):
        return pc.strftime(value, format="%Y-%m-%d %H:%M:%S")
    return value.cast(kind, safe=kind == _TIME)


def _read_as(text: Any, kind: pa.DataType) -> Any:
    if kind == pa.float64():
        trimmed = pc.utf8_trim_whitespace(text)
        return pc.if_else(pc.match_substring_regex(trimmed, _NUMBER), trimmed, None).cast(kind)
    if kind == pa.bool_():
        folded = pc.utf8_lower(text)
        known = pc.is_in(folded, pa.array(["true", "false", "t", "f", "1", "0"]))
        return pc.if_else(known, pc.is_in(folded, pa.array(["true", "t", "1"])), None)
    return text if kind == pa.string() else pc.coalesce(*(_time_of(text, form) for form in _TIMES))


def _time_of(text: Any, form: str) -> Any:
    return pc.strptime(text, format=form, unit="us", error_is_null=True)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _not_zero(value: Any) -> Any:
    return pc.if_else(pc.equal(value, 0.0), None, value)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}…")


_HOW: Final[dict[type[exp.Expr], _How]] = {
    exp.Column: lambda node, columns: columns.of(node),
    exp.Paren: lambda node, columns: _value(node.this, columns),
    exp.Literal: _literal,
    exp.Null: lambda node, columns: pa.scalar(None, pa.string()),
    exp.Boolean: lambda node, columns: pa.scalar(bool(node.this)),
    exp.And: _joining(pc.and_kleene),
    exp.Or: _joining(pc.or_kleene),
    exp.Not: lambda node, columns: pc.invert(_truth(_value(node.this, columns))),
    exp.Is: _is,
    exp.In: _in,
    exp.Between: _between,
    exp.Like: _like,
    exp.ILike: _like,
    exp.EQ: _comparing("equal"),
    exp.NEQ: _comparing("not_equal"),
    exp.GT: _comparing("greater"),
    exp.GTE: _comparing("greater_equal"),
    exp.LT: _comparing("less"),
    exp.LTE: _comparing("less_equal"),
    exp.Add: _computing(pc.add),
    exp.Sub: _computing(pc.subtract),
    exp.Mul: _computing(pc.multiply),
    exp.Div: _computing(lambda one, other: pc.divide(one, _not_zero(other))),
    exp.Mod: _computing(_mod),
    exp.Neg: _computing(pc.negate),
    exp.Abs: _computing(pc.abs),
    exp.Lower: _of_strings(pc.utf8_lower),
    exp.Upper: _of_strings(pc.utf8_upper),
    exp.Length: _of_strings(pc.utf8_length),
    exp.Trim: _of_strings(pc.utf8_trim_whitespace),
    exp.Coalesce: _coalesce,
    exp.Cast: _cast,
    exp.TryCast: _cast,
}
"""How each part is understood; no other is."""
