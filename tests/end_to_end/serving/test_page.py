"""The page in a browser, as people use it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from pipelines import hide
from tests.end_to_end.serving.browsing import DROP, PASTE, Visit, visit
from tests.end_to_end.serving.server_process import ServerProcess, served
from tests.transforms.serving.server import wait_for
from tests.transforms.serving.shop import HOSTILE, PLAIN, file_of, picture

pytestmark = pytest.mark.gate


def test_words_find_pictures_with_their_scores(page: Visit) -> None:
    page.search("about thing 7")
    assert len(page.names()) == 24 and "24 nearest by cosine" in page.status()
    scores = [float(text) for text in page.page.locator("#results .score").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    expect(page.page.locator("#results img").first).to_have_js_property("complete", True)
    assert page.page.locator("#results img").first.evaluate("one => one.naturalWidth") == 64
    assert page.page.title() == "about thing 7 · pixdex"


@pytest.mark.parametrize("how", [DROP, PASTE], ids=["dropped", "pasted"])
def test_a_picture_that_is_given_finds_itself(how: str, page: Visit) -> None:
    page.give(how, "mine.png", "image/png", file_of(picture(11)))
    expect(page.page.locator("#chip-name")).to_have_text("mine.png")
    page.settle()
    expect(page.page.locator("#results .name").first).to_have_text("thing 11")
    assert page.page.locator("#chip-picture").evaluate("one => one.decode().then(() => one.naturalWidth)") == 64
    page.page.reload()
    page.settle()
    expect(page.page.locator("#results .name").first).to_have_text("thing 11")


def test_a_picture_that_is_chosen_finds_itself(page: Visit, tmp_path: Path) -> None:
    (tmp_path / "chosen.png").write_bytes(file_of(picture(12)))
    with page.page.expect_file_chooser() as choosing:
        page.page.get_by_role("button", name="Choose a picture").click()
    choosing.value.set_files(tmp_path / "chosen.png")
    expect(page.page.locator("#results .name").first).to_have_text("thing 12")


def test_a_result_finds_what_is_like_it_and_going_back_works(page: Visit) -> None:
    page.search("about thing 7")
    before = page.names()
    page.page.get_by_role("button", name=f"Like this: {before[3]}", exact=True).click()
    expect(page.page.locator("#chip-name")).to_have_text(f"Like {before[3]}")
    expect(page.page.locator("#results .name").first).to_have_text(before[3])
    assert "like=item-" in page.page.url or "like=" in page.page.url
    page.page.go_back()
    expect(page.page.get_by_label("Search by words")).to_have_value("about thing 7")
    expect(page.page.locator("#results .name").first).to_have_text(before[0])
    page.settle()
    assert page.names() == before
    page.page.go_back()
    expect(page.page.locator("#heading")).to_have_text("From this collection")


def test_filters_narrow_what_is_found_and_stay_in_the_address(page: Visit) -> None:
    page.page.locator("summary").click()
    page.page.get_by_label("Condition").fill("price < 3")
    page.search("about thing 7")
    assert sorted(page.names()) == ["thing 0", "thing 1", "thing 2"]
    assert "where=price+%3C+3" in page.page.url
    page.page.get_by_label("Least score").fill("2")
    page.page.get_by_role("button", name="Apply").click()
    page.settle()
    assert page.names() == [] and "Nothing found: a filter may leave nothing" in page.status()
    page.page.reload()
    page.settle()
    expect(page.page.get_by_label("Condition")).to_have_value("price < 3")
    expect(page.page.locator("#filtered")).to_have_text("2")


def test_a_kind_may_be_asked_for(page: Visit) -> None:
    page.page.locator("summary").click()
    page.page.get_by_label("Find").select_option("Texts")
    page.search("about thing 7")
    assert page.names()[0] == "thing 7" and "modality=text" in page.page.url


def test_more_is_shown_on_request(page: Visit) -> None:
    page.search("about thing 7")
    page.page.get_by_role("button", name="Show more").click()
    page.settle()
    expect(page.page.locator("#results > li")).to_have_count(PLAIN + len(HOSTILE))
    assert page.page.evaluate("document.activeElement.closest('li') === document.querySelectorAll('#results > li')[24]")
    expect(page.page.get_by_role("button", name="Show more")).to_be_hidden()
    assert f"n={PLAIN + len(HOSTILE)}" in page.page.url
    page.page.reload()
    page.settle()
    expect(page.page.locator("#results > li")).to_have_count(PLAIN + len(HOSTILE))


def test_mistakes_are_told(browser: Browser, server: ServerProcess) -> None:
    with visit(browser, server.url) as page:
        page.page.locator("summary").click()
        page.page.get_by_label("Condition").fill("colour = 'red'")
        page.search("about thing 7")
        expect(page.problem()).to_contain_text("colour")
        page.page.get_by_label("Condition").fill("")
        page.page.get_by_role("button", name="Apply").click()
        page.settle()
        expect(page.problem()).to_be_hidden()
        page.give(DROP, "notes.txt", "text/plain", b"no picture at all")
        expect(page.problem()).to_contain_text("the picture cannot be read")
        page.complaints[:] = [line for line in page.complaints if "400 (Bad Request)" not in line]


def test_a_picture_that_is_too_large_is_told_before_it_is_sent(
    browser: Browser, server: ServerProcess, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as stream:
        stream.truncate(100 << 20)
    with visit(browser, server.url) as page:
        page.page.set_input_files("#file", large)
        expect(page.problem()).to_contain_text("large.png is too large: it has 100 MB, and up to 16 MB")
        page.search("about thing 7")
        assert len(page.names()) == 24
        said = page.page.evaluate(
            """async () => {
              const headers = {"content-type": "application/json"};
              const body = new Blob([new Uint8Array(1e8)]);
              const answer = await fetch("/api/search", {method: "POST", headers, body});
              return [answer.status, (await answer.json()).error];
            }"""
        )
        assert said[0] == 413 and "too large" in said[1]
        page.complaints[:] = [line for line in page.complaints if "413" not in line]


def test_a_server_that_is_gone_is_told_and_asked_again(browser: Browser, shop: Path) -> None:
    with served(shop) as server, visit(browser, server.url) as page:
        server.process.kill()
        page.page.get_by_label("Search by words").fill("words")
        page.page.get_by_label("Search by words").press("Enter")
        expect(page.problem()).to_contain_text("The server cannot be reached")
        expect(page.page.get_by_role("button", name="Try again")).to_be_visible()
        page.complaints.clear()


@pytest.fixture
def own(shop: Path, tmp_path: Path) -> Iterator[tuple[Path, ServerProcess]]:
    """A root that a test may change, whose pictures are its own, too."""
    root = Path(shutil.copytree(shop, tmp_path / "root"))
    with served(root, "--refresh", "0.1") as running:
        yield root, running


def test_what_is_hidden_is_gone_from_the_page(browser: Browser, own: tuple[Path, ServerProcess]) -> None:
    root, server = own
    with visit(browser, server.url) as page:
        page.search("about thing 7")
        name = page.names()[0]
        key = page.page.evaluate(
            """async () => (await (await fetch("/api/search", {method: "POST", body: '{"text": "about thing 7"}',
               headers: {"content-type": "application/json"}})).json()).results[0].key"""
        )
        assert hide.main(["--root", str(root), key]) == 0
        wait_for(lambda: page.page.evaluate("async () => (await (await fetch('/healthz')).json()).generation") == 2)
        page.search("about thing 7")
        assert name not in page.names()
        expect(page.page.locator("#about")).to_contain_text("generation 2")


def test_a_broken_picture_is_a_placeholder_that_says_why(browser: Browser, shop: Path) -> None:
    file = shop.parent / "pictures" / "30.png"
    whole = file.read_bytes()
    file.write_bytes(b"<svg onload='alert(1)'/>")
    path = "/?q=about+thing+30&where=price+%3D+30"
    try:
        with served(shop) as server, visit(browser, server.url, path=path) as page:
            expect(page.page.locator("#results .missing")).to_have_text("Picture not readable")
            page.page.locator("#results .tile").click()
            expect(page.page.locator("#detail-tile")).to_contain_text("the picture cannot be read")
            page.complaints[:] = [line for line in page.complaints if "404" not in line]
    finally:
        file.write_bytes(whole)


# --- what a hostile person wrote ---


def overflows(page: Visit) -> bool:
    return bool(page.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_of_a_root_runs_or_breaks_the_page(
    width: int, scheme: str, browser: Browser, server: ServerProcess
) -> None:
    with visit(browser, server.url, width=width, path=f"/?q=words&where=price+%3E%3D+{PLAIN}", scheme=scheme) as page:
        expect(page.page.locator("#results > li")).to_have_count(len(HOSTILE))
        assert sorted(page.names()) == sorted(" ".join(text.split()) for text in HOSTILE.values())
        assert not overflows(page)
        for place in range(len(HOSTILE)):
            page.page.locator("#results .tile").nth(place).click()
            expect(page.page.locator("#detail")).to_be_visible()
            assert not overflows(page)
            page.page.keyboard.press("Escape")
        page.page.locator("#results .like").nth(0).click()
        page.settle()
        assert not overflows(page) and page.page.locator("#results script, #results [onerror]").count() == 0


@pytest.mark.parametrize("name", ["q", "like", "where", "picture", "min", "modality"])
def test_nothing_in_an_address_runs(name: str, browser: Browser, server: ServerProcess) -> None:
    hostile = "%22%3E%3Cimg+src%3Dx+onerror%3Dalert(1)%3E"
    with visit(browser, server.url, path=f"/?q=words&{name}={hostile}&n=99999999") as page:
        assert page.page.locator("img[src=x]").count() == 0
        page.complaints[:] = [line for line in page.complaints if "400 (Bad Request)" not in line]


# --- by keyboard, and on small screens ---


def test_the_keyboard_is_enough(page: Visit) -> None:
    press = page.page.keyboard.press
    focused = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"
    press("Tab")
    assert page.page.evaluate(focused) == "Skip to results"
    press("Tab")
    press("Tab")
    page.page.keyboard.type("about thing 7")
    press("Enter")
    expect(page.page.locator("#heading")).to_have_text("about thing 7")
    page.settle()
    for _ in range(12):
        press("Tab")
        if "details" in page.page.evaluate(focused):
            break
    first = page.page.evaluate(focused)
    assert first.startswith(page.names()[0])
    press("Enter")
    expect(page.page.locator("#detail")).to_be_visible()
    press("Escape")
    expect(page.page.locator("#detail")).to_be_hidden()
    assert page.page.evaluate(focused) == first
    press("Tab")
    press("Enter")
    expect(page.page.locator("#chip-name")).to_contain_text("Like ")
    page.page.locator("body").press("/")
    assert page.page.evaluate("document.activeElement.id") == "text"


def test_everything_that_can_be_used_has_a_name(page: Visit) -> None:
    page.search("about thing 7")
    page.page.locator("summary").click()
    nameless = page.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a, dialog, ol, section")].filter((one) =>
             !(one.getAttribute("aria-label") || one.getAttribute("aria-labelledby") || one.labels?.length ||
               one.textContent.trim())).map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    assert page.page.locator("[role=status][aria-live=polite]").count() == 1
    assert page.page.locator("html[lang=en]").count() == 1


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_no_width_scrolls_sideways(width: int, browser: Browser, server: ServerProcess) -> None:
    with visit(browser, server.url, width=width) as page:
        assert not overflows(page)
        page.search("about thing 7")
        page.page.locator("summary").click()
        assert not overflows(page)
        page.page.locator("#results .tile").first.click()
        assert not overflows(page)
