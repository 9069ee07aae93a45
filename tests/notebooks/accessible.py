"""What axe-core finds in a page: the program that the axe browser extensions run, bundled with a Python package."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def violations(page: Page, within: str = "body") -> list[str]:
    """A line for each thing that breaks a rule inside of what a CSS selector finds, which has to be on the page."""
    assert page.locator(within).count() > 0, f"there is no {within} on the page"
    result = Axe().run(page, context=within).response
    assert result["passes"], f"axe looked at nothing in {within}"
    return [
        f"{found['id']} ({found['impact']}): {found['help']}: {node['html'][:300]}"
        for found in result["violations"]
        for node in found["nodes"]
    ]


def assert_accessible(page: Page, within: str = "body") -> None:
    """No rule of axe is broken inside of what a CSS selector finds."""
    found = violations(page, within)
    assert not found, "\n".join(found)
