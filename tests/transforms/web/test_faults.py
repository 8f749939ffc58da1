"""What is wrong with a file on the web, in the same words everywhere, and whether another try may help."""

import errno
import socket
import ssl
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from http.client import BadStatusLine, RemoteDisconnected

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3 import exceptions

from transforms.web import faults
from transforms.web.faults import Fault, fault_of, of_status, pauses, seconds_of

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 418, 451, 501, 505, 304, 999])
def test_an_answer_that_would_be_the_same_again_is_a_reject(status: int) -> None:
    assert of_status(status, "Whatever").rule == "reject"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 520, 599])
def test_an_answer_that_may_be_another_one_later_is_retried(status: int) -> None:
    assert of_status(status, "Whatever").rule == "retry"


def test_a_status_has_the_words_of_its_number_and_not_those_of_the_server() -> None:
    assert of_status(404, "Sorry, 7 users are online").message == "404 Not Found"
    assert of_status(799, " Odd ").message == "799 Odd"
    assert of_status(799, None).message == "799"


@pytest.mark.parametrize("status", [429, 503])
def test_only_who_has_no_time_says_when_to_come_back(status: int) -> None:
    assert of_status(status, None, "7").wait == 7
    assert of_status(status, None, "soon").wait is None
    assert of_status(500, None, "7").wait is None


@given(st.integers(0, 10**9))
def test_retry_after_may_be_seconds(seconds: int) -> None:
    assert seconds_of(f" {seconds} ") == seconds


@given(st.integers(-(10**6), 10**6), st.integers(-12, 12))
def test_retry_after_may_be_a_date_of_any_zone(seconds: int, hours: int) -> None:
    moment = (NOW + timedelta(seconds=seconds)).astimezone(timezone(timedelta(hours=hours)))
    assert seconds_of(format_datetime(moment), NOW.timestamp) == max(0, seconds)


@given(st.text() | st.sampled_from(["-1", "1.5", "1e9", "٣", "Fri, 99 Foo 2026 00:00:00 GMT", "Mon, 30 Nov 99999999"]))
def test_retry_after_that_is_neither_means_nothing(text: str) -> None:
    found = seconds_of(text, NOW.timestamp)
    assert found is None or found >= 0


def test_each_pause_is_twice_as_long_less_what_chance_takes() -> None:
    assert list(pauses(lambda: 0.0)) == [0.5, 1.0, 2.0, 4.0]
    assert list(pauses(lambda: 1.0)) == [0.25, 0.5, 1.0, 2.0]
    assert len({next(pauses()) for _ in range(20)}) > 10


PROTOCOL = exceptions.ProtocolError
CASES: dict[str, tuple[Exception, str, str]] = {
    "refused": (PROTOCOL("aborted", ConnectionRefusedError(111, "no")), "ConnectionRefusedError", "retry"),
    "reset": (PROTOCOL("aborted", ConnectionResetError(104, "reset")), "ConnectionResetError", "retry"),
    "hung up": (PROTOCOL("aborted", RemoteDisconnected("ended")), "RemoteDisconnected", "retry"),
    "unreachable": (OSError(errno.EHOSTUNREACH, "No route to host"), "OSError", "retry"),
    "silent": (exceptions.ReadTimeoutError(None, None, "slow"), "TimeoutError", "retry"),  # type: ignore[arg-type]
    "connecting": (PROTOCOL("aborted", TimeoutError("timed out")), "TimeoutError", "retry"),
    "cut": (PROTOCOL("broken", exceptions.IncompleteRead(5, 10)), "CutShort", "retry"),
    "other protocol": (PROTOCOL("aborted", BadStatusLine("220 x")), "BadAnswer", "retry"),
    "packed": (exceptions.DecodeError("gzip", ValueError()), "DecodeError", "retry"),
    "no name": (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "UnknownHost", "reject"),
    "no name now": (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "UnknownHost", "retry"),
    "certificate": (exceptions.SSLError(ssl.SSLCertVerificationError("expired")), "SSLCertVerificationError", "reject"),
    "handshake": (exceptions.SSLError(ssl.SSLError("[SSL] wrong version (_ssl.c:1006)")), "SSLError", "retry"),
    "private": (faults.PrivateAddressError("10.0.0.1 is private"), "PrivateAddress", "reject"),
    "no URL": (exceptions.LocationParseError("http://["), "BadURL", "reject"),
    "name too long": (UnicodeError("label too long"), "BadURL", "reject"),
    "files": (PROTOCOL("aborted", OSError(errno.EMFILE, "Too many open files")), "OSError", "stop"),
    "memory": (MemoryError(), "MemoryError", "stop"),
    "else": (RuntimeError("odd"), "RuntimeError", "reject"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_error_has_its_type_and_its_rule(case: str) -> None:
    error, kind, rule = CASES[case]
    fault = fault_of(error)
    assert (fault.type, fault.rule) == (kind, rule)
    assert "0x" not in fault.message and "_ssl.c" not in fault.message


def test_who_hangs_up_may_do_so_for_one_file_and_who_takes_no_connection_is_down_for_all() -> None:
    assert not fault_of(ConnectionResetError(104, "reset")).is_of_host
    assert fault_of(ConnectionRefusedError(111, "refused")).is_of_host
    assert fault_of(TimeoutError()) == Fault(
        "TimeoutError", "the server was silent for too long", "retry", is_of_host=True, is_silence=True
    )
