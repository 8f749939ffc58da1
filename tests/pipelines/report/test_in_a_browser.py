"""Reports in Chromium, as wide as a phone and as a desk: nothing is cut off, loaded or complained of."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipelines import report
from tests.pipelines.report.conftest import Told, said_by

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.gate

HEIGHTS = "[...document.querySelectorAll('svg.plot text')].map(text => text.getBoundingClientRect().height)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_a_page_fits_its_window_and_nobody_complains(
    browser: "Browser", told: Told, tuned: Path, width: int, scheme: str
) -> None:
    said_by(report.main, "--root", tuned)
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    pages = [told.page(1), told.page(2), tuned / "reports/000003/index.html"]
    for file in pages:
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert page.evaluate(f"{HEIGHTS}.every(height => height >= 10)")
    page.close()
    assert not complaints
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri() for file in pages]
