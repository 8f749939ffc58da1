"""A server follows its root: what is published answers, what cannot be opened does not, and no request is dropped."""

import gc
import itertools
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines import hide, rollback
from pipelines import unhide as shown_again
from tests.transforms.serving.server import serving, wait_for
from transforms.storage import layout


def hidden(root: Path, *keys: str) -> None:
    assert hide.main(["--root", str(root), *keys]) == 0


def test_what_is_hidden_is_found_no_more_and_its_picture_is_gone(own_shop: Path) -> None:
    with serving(own_shop) as server:
        hit = server.found(text="about thing 7")[0]
        assert server.get(f"/api/items/{hit['id']}/picture").status == 200
        hidden(own_shop, hit["key"])
        wait_for(lambda: server.get("/healthz").json["generation"] == 2)
        assert hit["key"] not in {one["key"] for one in server.found(text="about thing 7", k=200)}
        assert server.get(f"/api/items/{hit['id']}/picture").status == 404
        assert server.search(key=hit["key"]).status == 400
        assert hit["key"] not in {one["key"] for one in server.get("/api/sample").json["results"]}
        assert shown_again.main(["--root", str(own_shop), hit["key"]]) == 0
        wait_for(lambda: server.get("/healthz").json["generation"] == 3)
        assert server.found(text="about thing 7")[0] == hit


def test_a_generation_that_cannot_be_opened_leaves_the_other_one_answering(own_shop: Path) -> None:
    with serving(own_shop) as server:
        key = server.found(text="about thing 7")[0]["key"]
        broken = own_shop / layout.generation(2)
        broken.write_text("{")
        wait_for(lambda: server.get("/healthz").json["status"] == "stale")
        health = server.get("/healthz")
        assert health.status == 200 and health.json["generation"] == 1
        assert layout.generation(2) in health.json["problem"]
        assert server.found(text="about thing 7")[0]["key"] == key
        metrics = server.get("/metrics").body.decode().splitlines()
        assert "pixdex_serve_stale 1.0" in metrics and "pixdex_serve_generation 1.0" in metrics
        broken.unlink()
        wait_for(lambda: server.get("/healthz").json == {"status": "ok", "generation": 1, "newest": 1, "problem": None})


def test_the_one_before_is_let_go_of_when_nobody_answers_from_it(own_shop: Path) -> None:
    with serving(own_shop, refresh=3600) as server:
        before = weakref.ref(server.following.state.opened.searcher)
        mine = server.following.state.opened
        hidden(own_shop, server.found(text="about thing 7")[0]["key"])
        assert server.following.look() and not server.following.look()
        gc.collect()
        assert before() is mine.searcher and mine.encoder is server.following.state.opened.encoder
        del mine
        gc.collect()
        assert before() is None


def test_searches_go_on_while_generations_are_published_and_rolled_back(own_shop: Path) -> None:
    seen: set[int] = set()
    failed: list[object] = []
    is_over = threading.Event()
    with serving(own_shop) as server, ThreadPoolExecutor(50) as pool:
        keys = [hit["key"] for hit in server.found(text="about thing 7", k=40)]

        def ask(number: int) -> None:
            for turn in itertools.count():
                question = ({"text": f"words {number} {turn}"}, {"key": keys[-1]}, {"vector": [1.0] * 16})[turn % 3]
                reply = server.search(**question)
                if reply.status != 200 or not reply.json["results"]:
                    failed.append((question, reply))
                else:
                    seen.add(reply.json["generation"])
                if is_over.is_set():
                    return

        asking = [pool.submit(ask, number) for number in range(50)]
        hidden(own_shop, keys[0])
        wait_for(lambda: 2 in seen, 60)
        assert rollback.main(["--root", str(own_shop), "--to", "1"]) == 0
        wait_for(lambda: 3 in seen, 60)
        is_over.set()
        for one in asking:
            one.result(60)
    assert not failed and seen == {1, 2, 3}
