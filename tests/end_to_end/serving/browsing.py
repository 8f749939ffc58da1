"""A person at the page: what they do, what they see, and what their browser noticed."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Page, Request, expect

DROP = """({name, type, bytes}) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, {type}));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
  }
}"""
PASTE = """({name, type, bytes}) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, {type}));
  document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
}"""


@dataclass
class Visit:
    """A page that is open, and what happened on it that must not.

    Attributes:
        page: Playwright's.
        ran: dialogs and errors of scripts: something of a root has run, or the page is broken.
        complaints: errors on the console.
        strangers: requests to other hosts.
    """

    page: Page
    ran: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def search(self, text: str) -> None:
        """Searches by words, and waits for the answer."""
        self.page.get_by_label("Search by words").fill(text)
        self.page.get_by_label("Search by words").press("Enter")
        self.settle()

    def settle(self) -> None:
        """Waits until nothing is looked for."""
        expect(self.page.locator("#found")).to_have_attribute("aria-busy", "false")

    def give(self, how: str, name: str, kind: str, data: bytes) -> None:
        """Drops or pastes a file."""
        self.page.evaluate(how, {"name": name, "type": kind, "bytes": list(data)})

    def names(self) -> list[str]:
        """The names of the results that are shown."""
        return self.page.locator("#results .name").all_inner_texts()

    def status(self) -> str:
        return self.page.locator("#status").inner_text()

    def problem(self) -> Any:
        return self.page.get_by_role("alert")


@contextlib.contextmanager
def visit(browser: Browser, url: str, *, width: int = 1200, path: str = "/", scheme: Any = "light") -> Iterator[Visit]:
    """Opens the page; when the block is over, nothing has run that must not, and nobody else was asked."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    visited = Visit(page)

    def on_dialog(dialog: Dialog) -> None:
        visited.ran.append(dialog.message)
        dialog.dismiss()

    def on_error(error: Error) -> None:
        visited.ran.append(str(error))

    def on_line(line: ConsoleMessage) -> None:
        if line.type == "error":
            visited.complaints.append(line.text)

    def on_request(asked: Request) -> None:
        if not asked.url.startswith((url, "blob:")):
            visited.strangers.append(asked.url)

    page.on("dialog", on_dialog)
    page.on("pageerror", on_error)
    page.on("console", on_line)
    context.on("request", on_request)
    try:
        page.goto(url + path)
        visited.settle()
        yield visited
        assert (visited.ran, visited.complaints, visited.strangers) == ([], [], [])
    finally:
        context.close()
