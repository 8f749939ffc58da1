"""Pictures on the web, as a loader has them: time, memory, threads, and whose host may be private."""

import errno
import itertools
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.terminal import command_line, options
from tests import web
from tests.encoders import TinyEncoder
from tests.transforms.embedded import SETTINGS, embed, planned
from transforms.errors import PixdexError
from transforms.pictures.budget import DecodeBudget
from transforms.queries.encode import QueryEncoder
from transforms.records import IndexSettings, Request, Source
from transforms.rejects import Failure
from transforms.tasks.embed import fetch, load_picture
from transforms.tasks.embed.limits import FETCH_THREADS, ItemLimits
from transforms.tasks.embed.load_picture import WEB_BYTES, GivenUpError, Progress
from transforms.tasks.embed.picture_loader import FIRST_THREADS, LOST_THREADS, WEB_THREADS, PictureLoader
from transforms.web.limits import WebLimits

TIMEOUT = Failure("fetch", "timeout", "fetching takes longer than --item-timeout allows")


@pytest.fixture
def server() -> Iterator[web.Server]:
    with web.serving() as running:
        yield running


def load(urls: list[str], seconds: float = 20, threads: int | None = None, **limits: Any) -> list[Any]:
    item = ItemLimits(seconds, threads=threads, web=WebLimits(allow_private=True, **limits))
    with PictureLoader(TinyEncoder(), SETTINGS, item) as loader:
        return [picture for _, loaded in loader.batches(urls, 64) for picture in loaded]


def test_pictures_of_many_hosts_come_beside_each_other_and_in_order(server: web.Server) -> None:
    loaded = load([server.url(f"/slow/{number}", f"127.0.0.{1 + number % 16}") for number in range(64)])
    assert [picture[1] for picture in loaded] == [(12, 10)] * 64
    sound = load([server.url(f"/ok/{number}") for number in range(64)])
    assert [one[0].tobytes() for one in loaded] == [one[0].tobytes() for one in sound]
    asked = sorted(moment for path, _, moment in server.seen.requests if path.startswith("/slow/"))
    assert min(later - one for one, later in itertools.pairwise(asked)) < 0.1  # one alone is answered as long


def test_as_many_threads_fetch_as_was_asked_for_and_more_only_for_the_web(server: web.Server) -> None:
    hosts = [f"127.0.0.{number}" for number in range(1, 33)]
    load([server.url("/slow/1", host) for host in hosts], threads=3)
    assert len(server.seen.most) == 32
    with PictureLoader(TinyEncoder(), SETTINGS, ItemLimits()) as loader:
        assert len(loader._threads) == min(FIRST_THREADS, FETCH_THREADS)
        list(loader.batches([server.url("/ok/1")], 4))
        assert len(loader._threads) == WEB_THREADS


def test_any_number_of_pictures_that_never_come_costs_these_pictures_and_no_thread(server: web.Server) -> None:
    urls = [server.url(f"/hangs/{number}", f"127.0.0.{1 + number % 16}") for number in range(2 * LOST_THREADS)]
    assert load([*urls, server.url("/ok/1", "127.0.0.99")], seconds=0.5)[:-1] == [TIMEOUT] * len(urls)


def test_large_pictures_of_one_host_wait_for_memory_and_not_for_each_other(
    server: web.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_picture, "BUDGET", DecodeBudget(2 * WEB_BYTES))
    sizes = [WEB_BYTES + 1000, 3 * WEB_BYTES, 3000]
    names = [f"/{kind}/{size}" for size in sizes for kind in ("large", "unsaid")]
    urls = [server.url(f"{name}?{letter}") for letter in "abc" for name in names]
    loaded = load(urls, host_connections=1)
    assert [picture[1] for picture in loaded] == [(12, 10)] * len(urls)
    assert server.seen.most["127.0.0.1"] == 1


def test_waiting_for_a_turn_is_no_time_of_a_picture(server: web.Server) -> None:
    loaded = load([server.url(f"/slow/{number}") for number in range(12)], seconds=0.6, host_connections=1)
    assert [picture[1] for picture in loaded] == [(12, 10)] * 12


def test_the_clock_of_a_picture_stands_while_it_waits_and_goes_on_whatever_comes_of_that() -> None:
    progress = Progress()
    progress.begin()
    with pytest.raises(ValueError, match="odd"), progress.waiting():
        spent = progress.spent()
        time.sleep(0.02)
        assert progress.spent() == spent and not progress.give_up()
        raise ValueError("odd")
    time.sleep(0.01)
    assert spent + 0.005 < progress.spent()
    assert progress.give_up()
    with pytest.raises(GivenUpError), progress.waiting():
        pass


def test_a_machine_without_files_left_blames_no_picture(server: web.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "getaddrinfo", full)
    with pytest.raises(PixdexError, match=r"/ok/1 cannot be fetched on this machine \(OSError: .*Too many"):
        load([server.url("/ok/1")])


def test_rows_name_no_private_host_but_that_of_their_own_file(tmp_path: Path, server: web.Server) -> None:
    rows = ["url", server.url("/ok/1"), server.url("/ok/2", "127.0.0.2"), ""]
    server.files["/rows.csv"] = "\n".join(rows).encode()
    (tmp_path / "rows.csv").write_bytes(server.files["/rows.csv"])
    there = embed(planned(tmp_path / "a", Source("csv", server.url("/rows.csv"), image_column="url")))
    here = embed(planned(tmp_path / "b", Source("csv", f"file://{tmp_path}/rows.csv", image_column="url")))
    assert [(reject.type, reject.uri) for reject in there.rejects] == [("PrivateAddress", rows[2])]
    assert [reject.type for reject in here.rejects] == ["PrivateAddress"] * 2
    assert {host for _, host, _ in server.seen.requests} == {"127.0.0.1"}


def test_protocols_of_other_servers_lead_to_no_private_host_either() -> None:
    limits = ItemLimits(named=frozenset({"files.intranet"}))
    for uri in ("ftp://127.0.0.1/a.png", "sftp://localhost/a.png", "webhdfs://10.0.0.1:9870/a.png", "FTP://[::1]/a"):
        found = fetch.refusal(uri, limits)
        assert found is not None and found.type == "PrivateAddress"
        assert fetch.refusal(uri, ItemLimits(web=WebLimits(allow_private=True))) is None
    for uri in ("ftp://files.intranet/a.png", "ftp://8.8.8.8/a.png", "s3://localhost/a.png", "file:///a.png"):
        assert fetch.refusal(uri, limits) is None
    with PictureLoader(TinyEncoder(), SETTINGS, ItemLimits()) as loader:
        ((_, (loaded,)),) = loader.batches(["ftp://127.0.0.1/a.png"], 4)
    assert isinstance(loaded, Failure) and loaded.type == "PrivateAddress"


def test_a_scheme_may_be_in_capitals(server: web.Server) -> None:
    assert load([server.url("/ok/1").replace("http", "HTTP")])[0][1] == (12, 10)


def test_who_searches_by_a_picture_at_a_private_address_means_it(server: web.Server) -> None:
    asked = QueryEncoder(Request((), SETTINGS, IndexSettings()), named=SETTINGS.spec)
    moved = server.url("/to?" + server.url("/ok/1", "127.0.0.2"))
    vectors, failures = asked.each_picture([server.url("/ok/1"), moved])
    assert len(vectors) == 1 and failures[1].type == "PrivateAddress"


def test_flags_say_what_a_picture_may_cost_and_how_it_is_fetched() -> None:
    words = ["--item-timeout", "5", "--max-file-bytes", "1M", "--fetch-threads", "9", "--host-connections", "2"]
    words += ["--host-rate", "0.5", "--allow-private-addresses", "--fetch-user-agent", "me (me@example.org)"]
    asked = options.item_limits_of(command_line.read("reindex", "", words, options.REINDEX).options)
    assert asked == ItemLimits(5, 1 << 20, 9, WebLimits(2, 0.5, True, "me (me@example.org)"))
    assert options.item_limits_of(command_line.read("build", "", [], options.BUILD).options) == ItemLimits()
