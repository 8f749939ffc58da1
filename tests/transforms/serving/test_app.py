"""What the server answers: the same as the command line, and one clear line where it cannot."""

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pipelines import search
from tests.transforms.serving.server import Server, serving, wait_for
from tests.transforms.serving.shop import HOSTILE, PLAIN, base64_of, file_of, picture
from transforms.serving import answering, misread
from transforms.serving.limits import Limits
from transforms.serving.questions import Question

Capture = pytest.CaptureFixture[str]


def printed(root: Path, capsys: Capture, *words: str) -> Any:
    assert search.main(["--root", str(root), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


# --- answers ---


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"text": "about thing 7"}, ("about thing 7",)),
        ({"text": "a b", "k": 3, "modality": "text"}, ("a b", "-k", "3", "--modality", "text")),
        (
            {"text": "a b", "where": "price < 5", "min_score": -0.5},
            ("a b", "--where", "price < 5", "--min-score", "-0.5"),
        ),
        ({"text": "a b", "minus": ["c d"], "k": 4}, ("a b", "--not", "c d", "-k", "4")),
        ({"text": "a b", "group_by": "name", "dedup": 0.99}, ("a b", "--group-by", "name", "--dedup", "0.99")),
    ],
)  # fmt: skip
def test_a_search_answers_as_the_command_line(
    question: dict[str, Any], words: tuple[str, ...], shop: Path, server: Server, capsys: Capture
) -> None:
    assert server.search(**question).json == printed(shop, capsys, *words)


def test_an_item_finds_what_is_like_it(shop: Path, server: Server, capsys: Capture) -> None:
    key = server.found(text="about thing 7")[0]["key"]
    assert server.search(key=key, k=5).json == printed(shop, capsys, "--like", key, "-k", "5")
    assert server.found(key=key)[0]["key"] == key


def test_a_picture_finds_itself_as_on_the_command_line(
    shop: Path, server: Server, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "asked.png"
    file.write_bytes(file_of(picture(5)))
    found, wanted = server.found(image=base64_of(file.read_bytes())), printed(shop, capsys, "--image", str(file))
    assert [hit["id"] for hit in found] == [hit["id"] for hit in wanted["results"]]
    assert [hit["score"] for hit in found] == pytest.approx([hit["score"] for hit in wanted["results"]], abs=1e-5)
    assert found[0]["columns"]["name"] == "thing 5"


def test_a_vector_finds_of_any_kind(shop: Path, server: Server, tmp_path: Path, capsys: Capture) -> None:
    vector = np.random.default_rng(0).standard_normal(16).astype(np.float32)
    np.save(tmp_path / "vector.npy", vector)
    wanted = printed(shop, capsys, "--vector", str(tmp_path / "vector.npy"))
    assert server.search(vector=vector.tolist()).json == wanted


def test_pages_follow_one_another(server: Server) -> None:
    whole = server.found(text="about thing 7", k=12)
    parts = [hit for offset in (0, 5, 10) for hit in server.found(text="about thing 7", k=5, offset=offset)]
    assert parts[:12] == whole and [hit["rank"] for hit in parts] == list(range(1, 16))
    assert server.found(text="about thing 7", offset=900) == []


def test_nothing_found_is_an_answer(server: Server) -> None:
    assert server.search(text="a b", where="price > 100000").json == {"generation": 1, "results": []}


def test_it_says_what_is_searched(server: Server) -> None:
    about = server.get("/api/about").json
    assert (about["generation"], about["items"], about["takes"]) == (1, PLAIN + len(HOSTILE), ["text", "image"])
    assert about["scores"] == "cosine" and about["upload_bytes"] == Limits().upload_bytes
    sample = server.get("/api/sample").json
    assert sample["generation"] == 1 and len({hit["id"] for hit in sample["results"]}) >= 8


def test_what_is_no_number_is_null() -> None:
    told = answering.as_json({"a": [float("nan"), 1.5], "b": {"c": float("inf")}, "d": "ü"})
    assert json.loads(told) == {"a": [None, 1.5], "b": {"c": None}, "d": "ü"}


def test_its_types_are_described(server: Server) -> None:
    described = server.get("/openapi.json").json
    assert {"/api/search", "/api/items/{id}/picture", "/healthz", "/metrics"} <= set(described["paths"])
    schema = described["paths"]["/api/search"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Answer"}
    assert server.get("/docs").status == 404  # it would load scripts from elsewhere


# --- what is refused ---


def test_every_field_of_a_question_has_words_for_what_it_takes() -> None:
    assert set(Question.model_fields) <= set(misread.TAKES)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({}, "give one of text, image, vector and key"),
        ({"text": "a", "key": "b"}, "not text and key"),
        ({"text": " "}, "the query is empty"),
        ({"text": "a", "k": 0}, "k is 0"),
        ({"text": "a", "k": "3"}, "k: it takes a whole number, and is given '3'"),
        ({"text": "a", "offset": -1}, "offset -1"),
        ({"text": "a", "k": 600, "offset": 600}, "1000 results at most"),
        ({"text": "a", "where": "price <"}, "is not understood"),
        ({"text": "a", "where": "colour = 'red'"}, "colour"),
        ({"text": "a", "where": "(" * 5000}, "is not understood"),
        (
            {"text": "a", "modality": "sound"},
            "modality: it takes one of image, text, keyword, any, and is given 'sound'",
        ),
        ({"text": "a", "modality": "imag"}, "did you mean image?"),
        ({"text": "a", "modality": "keyword"}, "this index has none"),
        ({"text": "a", "min_score": float("nan")}, "min_score is nan"),
        ({"text": "a", "min_score": "much"}, "min_score: it takes a number, or auto, and is given 'much'"),
        ({"text": "a", "group_by": "colour"}, "has no column colour"),
        ({"text": "a", "colour": "red"}, "colour: there is no such field"),
        ({"text": "a", "wher": "red"}, "wher: there is no such field, did you mean where?"),
        ({"text": "x" * 10_001}, "text: it takes a text of at most 10,000 letters"),
        ({"key": "nobody"}, "has no item of the key 'nobody'"),
        ({"vector": [1.0] * 15}, "this root takes (queries, 16)"),
        ({"vector": []}, "this root takes (queries, 16)"),
        ({"vector": [float("nan")] * 16}, "not finite"),
        ({"vector": [1e300] * 16}, "not finite"),
        ({"vector": [0.0] * 16}, "zero"),
        ({"vector": ["a"] * 16}, "vector"),
        ({"image": ""}, "image is empty"),
        ({"image": "***"}, "image is no base64"),
        ({"image": base64_of(b"<svg onload='alert(1)'/>")}, "the picture cannot be read (UnidentifiedImageError)"),
        ({"image": base64_of(file_of(picture(1))[:200])}, "the picture cannot be read"),
    ],
)
def test_a_question_that_cannot_be_answered_gets_one_line(question: dict[str, Any], said: str, server: Server) -> None:
    reply = server.search(**question)
    assert reply.status == 400
    assert said in reply.json["error"] and "\n" not in reply.json["error"] and set(reply.json) == {"error"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"text": "\\ud800"}', b"\xff", b'"' * 3000])
def test_what_is_no_question_gets_one_line(body: bytes, server: Server) -> None:
    reply = server.ask("POST", "/api/search", body, {"content-type": "application/json"})
    assert reply.status == 400 and reply.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/page/../app.py", 404), ("GET", "/api/search", 405), ("DELETE", "/", 405)],
)
def test_other_addresses_are_refused_as_json(method: str, path: str, status: int, server: Server) -> None:
    reply = server.ask(method, path)
    assert reply.status == status and set(reply.json) == {"error"}


def test_what_takes_too_long_is_told_so(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(shop, Limits(seconds=0.2)) as server:
        go_on = threading.Event()
        monkeypatch.setattr("transforms.serving.opened.Opened.sample", lambda self: go_on.wait(20) and [])
        late = server.get("/api/sample")
        go_on.set()
        assert late.status == 504 and "take longer than 0.2 s" in late.json["error"]
        assert server.found(text="a")


def test_more_at_once_than_may_be_is_told_to_come_again(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(shop, Limits(at_once=2, threads=1)) as server, ThreadPoolExecutor(2) as pool:
        go_on, begun = threading.Event(), threading.Semaphore(0)

        def slow(self: object) -> list[object]:
            begun.release()
            go_on.wait(20)
            return []

        monkeypatch.setattr("transforms.serving.opened.Opened.sample", slow)
        first = pool.submit(server.get, "/api/sample")
        begun.acquire()
        second = pool.submit(server.get, "/api/sample")
        wait_for(lambda: b"\npixdex_serve_in_flight 3.0\n" in server.get("/metrics").body)  # itself among them
        busy = server.search(text="a")
        assert busy.status == 503
        assert busy.headers["retry-after"] == "1" and "come again" in busy.json["error"]
        assert server.get("/healthz").status == 200
        go_on.set()
        assert {first.result().status, second.result().status} == {200}
        assert server.search(text="a").status == 200


def test_an_error_that_nobody_foresaw_is_told_without_its_traceback(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(shop) as server:
        monkeypatch.setattr("transforms.serving.opened.Opened.sample", lambda self: 1 / 0)
        reply = server.get("/api/sample")
        assert reply.status == 500
        assert reply.json == {"error": "the server failed (ZeroDivisionError); its log says why"}


# --- pictures ---


def test_a_picture_is_shown_small_and_upright(server: Server) -> None:
    hit = server.found(text="about thing 7")[0]
    reply = server.get(f"/api/items/{hit['id']}/picture?size=32")
    assert reply.status == 200 and reply.headers["content-type"] in ("image/png", "image/jpeg")
    assert PIL.Image.open(io.BytesIO(reply.body)).size == (32, 24)
    whole = server.get(f"/api/items/{hit['id']}/picture?size=1024")
    assert PIL.Image.open(io.BytesIO(whole.body)).size == (64, 48)  # never larger than it is
    assert whole.headers["cache-control"] == "private, no-cache"
    again = server.get(f"/api/items/{hit['id']}/picture?size=1024", {"if-none-match": whole.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("id", [1 << 40, (1 << 63) - 1, 65535])
def test_an_item_that_is_not_there_has_no_picture(id: int, server: Server) -> None:
    reply = server.get(f"/api/items/{id}/picture")
    assert reply.status == 404 and f"no item has the id {id}" in reply.json["error"]


@pytest.mark.parametrize(
    "path", ["x/picture", "-1/picture", f"{1 << 63}/picture", "1/picture?size=9", "1/picture?size=x"]
)
def test_a_picture_that_cannot_be_is_refused(path: str, server: Server) -> None:
    assert server.get(f"/api/items/{path}").status == 400


# --- the page ---


def test_the_page_is_of_files_that_are_there(server: Server) -> None:
    home = server.get("/")
    assert home.status == 200 and home.headers["content-type"] == "text/html; charset=utf-8"
    text = home.body.decode()
    for name in ("style.css", "page.js", "icon.svg"):
        assert f"/page/{name}" in text and server.get(f"/page/{name}").status == 200
    assert "//" not in text.replace("http://www.w3.org", "") or "https://" not in text
    assert "<style" not in text and " style=" not in text and " on" not in text.split("<body>")[0]


def test_metrics_count_what_was_asked(server: Server) -> None:
    server.search(text="a")
    server.search(text=" ")
    server.get("/nowhere")
    lines = server.get("/metrics").body.decode().splitlines()
    counted = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}
    assert counted['pixdex_serve_requests_total{path="/api/search",status="200"}'] >= 1
    assert counted['pixdex_serve_requests_total{path="/api/search",status="400"}'] >= 1
    assert counted['pixdex_serve_requests_total{path="other",status="404"}'] >= 1
    assert counted['pixdex_serve_request_seconds_count{path="/api/search"}'] >= 2
    assert counted['pixdex_serve_search_seconds_count{step="encode"}'] >= 1
    assert counted["pixdex_serve_generation"] == 1 and counted["pixdex_serve_stale"] == 0
    assert counted["pixdex_serve_in_flight"] == 1
