"""A person at the page, in a real browser."""

from pathlib import Path

from playwright.sync_api import Browser, Page, expect

SIZES = {"desk": (1280, 900), "phone": (390, 844)}


class Visitor:
    """A browser tab on the demo; fails the test on any console error."""

    def __init__(self, browser: Browser, url: str, size: str = "desk", **context: object):
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, **context
        )
        self.page: Page = self.context.new_page()
        self.trouble: list[str] = []
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on(
            "console",
            lambda message: self.trouble.append(message.text) if message.type == "error" else None,
        )
        self.page.goto(url)
        self.page.wait_for_selector("rt-stage")

    def upload(self, path: Path) -> None:
        self.page.set_input_files(".rt-photo input[type=file]", path)

    def wait_for_boxes(self) -> None:
        expect(self.page.locator("#stage .front .detection").first).to_be_attached(timeout=30_000)

    def slide(self, control: str, value: float) -> None:
        self.page.eval_on_selector(
            f"#{control}",
            "(input, value) => {input.value = value; "
            "input.dispatchEvent(new Event('input', {bubbles: true}))}",
            value,
        )

    def boxes(self) -> list[tuple[str, float]]:
        return [
            (label, float(score))
            for label, score in self.page.eval_on_selector_all(
                "#stage .front .detection",
                "groups => groups.map(g => [g.dataset.label, g.dataset.score])",
            )
        ]

    def close(self) -> None:
        self.context.close()
        assert self.trouble == []
