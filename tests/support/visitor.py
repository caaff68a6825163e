"""A person at the page, in a real browser."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

SIZES = {"desk": (1280, 900), "phone": (390, 844), "tablet": (820, 1180), "wide": (1920, 1080)}


class Visitor:
    """A browser tab on the demo; fails the test on any console error.

    Motion is off, so that what is shown is at its place at once; `reduced_motion="no-preference"`
    turns it on. Without a `url` the tab waits for `open`.
    """

    def __init__(self, browser: Browser, url: str, size: str = "desk", **context: Any):
        width, height = SIZES[size]
        settings = {"reduced_motion": "reduce", "accept_downloads": True, **context}
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, has_touch=size == "phone", **settings
        )
        self.page: Page = self.context.new_page()
        self.trouble: list[str] = []
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on(
            "console",
            lambda message: self.trouble.append(message.text) if message.type == "error" else None,
        )
        if url:
            self.open(url)

    def open(self, url: str) -> None:
        """Go to the page."""
        self.page.goto(url)
        self.page.wait_for_selector("rt-stage")

    def state(self, expression: str) -> Any:
        """What an expression makes of the page's state `s`, such as "s.depth"."""
        return self.page.locator("rt-app").evaluate(
            f"(a) => (s => {expression})(a.app.store.get())"
        )

    @property
    def problem(self) -> Locator:
        """The sentence under the stage that tells what went wrong."""
        return self.page.locator("rt-stage > .problem")

    def wait_for(self, expression: str, seconds: float = 30) -> None:
        """Wait until the state `s` makes an expression true."""
        self.page.wait_for_function(
            f"""() => {{
              const found = (root) => root.querySelector("rt-app")
                ?? [...root.querySelectorAll("*")].map((e) => e.shadowRoot)
                     .find((r) => r?.querySelector("rt-app"))?.querySelector("rt-app");
              const app = found(document);
              return app && ((s) => {expression})(app.app.store.get());
            }}""",
            timeout=1000 * seconds,
        )

    def wait_for_checkpoint(self, name: str) -> None:
        """Wait until the picture on the stage was looked at by this checkpoint."""
        self.wait_for(f"s.result?.settings.checkpoint === {name!r} && !s.busy")

    def upload(self, path: Path, seconds: float = 30) -> None:
        """Choose a file in the dialog, and wait for what comes of it."""
        self.page.locator("rt-stage .add").click()
        self.page.locator("rt-add-picture dialog[open]").wait_for()
        self.page.set_input_files("rt-add-picture input[type=file]", path)
        self.wait_for(f"!s.busy && (s.problem || s.result?.title === {path.name!r})", seconds)

    def wait_for_boxes(self) -> None:
        """Wait until something is found."""
        expect(self.page.locator("rt-detections tbody tr[data-key]").first).to_be_attached(
            timeout=30_000
        )

    def slide(self, control: str, value: float) -> None:
        """Put a slider ("depth", "threshold") at a value."""
        self.page.locator(f"#{control}").evaluate(
            "(input, value) => {input.value = value; "
            "input.dispatchEvent(new Event('input', {bubbles: true}))}",
            value,
        )

    def boxes(self) -> list[tuple[str, float]]:
        """Label and score of what the stage has drawn, best first."""
        drawn = "stage => stage.drawn.detections.map(one => [one.label, one.score])"
        return [(label, score) for label, score in self.page.locator("rt-stage").evaluate(drawn)]

    def ghosts(self) -> list[tuple[str, float]]:
        """Label and score of what is drawn dashed."""
        drawn = "stage => stage.drawn.ghosts.map(one => [one.label, one.score])"
        return [(label, score) for label, score in self.page.locator("rt-stage").evaluate(drawn)]

    def close(self) -> None:
        self.context.close()
        assert self.trouble == []
