"""Why items were rejected, in few words."""

import pyarrow as pa
import pytest

from transforms.shards import reasons
from transforms.shards.reasons import Reason, Reasons


def rejects(*messages: str, stage: str = "fetch", kind: str = "OSError") -> pa.Table:
    return pa.table({"stage": [stage] * len(messages), "type": [kind] * len(messages), "message": list(messages)})


def said(*messages: str) -> list[tuple[int, str]]:
    counted = Reasons()
    counted.add(rejects(*messages))
    return [(reason.count, reason.message) for reason in counted.most_common(10)]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (("no such file: '/a/b c.png'", "no such file: '/x.png'"), "no such file: <path>"),
        (('cannot open "a/b.png"', 'cannot open "c/d.png"'), "cannot open <path>"),
        (("file:///a/b.png#1 is gone", "s3://bucket/x.png is gone"), "<path> is gone"),
        (("/a/b.png: bad (see /c)", "/d: bad (see /e/f)"), "<path>: bad (see <path>)"),
        (("'one.png' is empty", "'two.jpeg' is empty"), "<path> is empty"),
        (("line 3: the row has 2 cells", "line 17: the row has 5 cells"), "the row has <number> cells"),
        (("[Errno 2] gone: '/a'", "[Errno 2] gone: '/b'"), "[Errno 2] gone: <path>"),
        (("404, message='Not Found', url='http://a/1'", "404, message='Not Found', url='http://a/2'"),
         "<number>, message='Not Found', url=<path>"),
    ],
)  # fmt: skip
def test_messages_that_differ_in_what_one_item_has_are_one_reason(messages: tuple[str, str], message: str) -> None:
    assert said(*messages) == [(2, message)]


def test_a_message_that_all_have_is_said_as_it_is() -> None:
    assert said("404 of 'http://a/1'", "404 of 'http://a/1'") == [(2, "404 of 'http://a/1'")]


@pytest.mark.parametrize("messages", [("a", "b"), ("[Errno 2] gone", "[Errno 13] gone"), ("no 'utf-8'", "no 'utf8'")])
def test_other_messages_are_other_reasons(messages: tuple[str, str]) -> None:
    assert len(said(*messages)) == 2


def test_reasons_are_counted_over_several_tables_by_stage_and_type() -> None:
    counted = Reasons()
    for table in (rejects("/a", "/b"), rejects("/c", stage="decode"), rejects("/d"), rejects("/d", kind="Other")):
        counted.add(table)
    counted.add(rejects())
    assert counted.most_common(2) == [Reason(3, "fetch", "OSError", "<path>"), Reason(1, "decode", "OSError", "/c")]
    assert (counted.left_out(2), counted.left_out(3)) == (1, 0)
    assert str(counted.most_common(1)[0]) == "3 x OSError: <path>"


def test_no_more_reasons_are_held_than_a_machine_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "GROUPS", 3)
    counted = Reasons()
    counted.add(rejects(*(f"x{letter}" for letter in "abcdefgh"), "xa"))
    assert len(counted.most_common(10)) == 3
    assert sum(reason.count for reason in counted.most_common(10)) + counted.left_out(10) == 9
