"""The project's own files agree with each other and say only what is so."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
_NOT_OURS = re.compile(r"^(\.(?!ci/)|demo/|build/|dist/)|__pycache__")
_TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yml",
    ".ipynb",
    ".ini",
    ".mako",
    ".tpl",
    ".j2",
    ".css",
    ".svg",
    "",
}


def _files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        if path.is_file() and not _NOT_OURS.search(path.relative_to(ROOT).as_posix()):
            yield path


def _project() -> dict[str, list[str]]:
    data: dict[str, dict[str, list[str]]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return data["project"]


def test_conda_gets_the_same_dependencies() -> None:
    """environment.yml lists what pyproject.toml lists, with the same bounds."""
    environment = (ROOT / "environment.yml").read_text()
    listed = re.findall(r"^  - ([^:\s]+)$", environment, re.MULTILINE)[2:]  # after the channels
    wanted = [re.sub(r"\[.*?\]", "", dependency) for dependency in _project()["dependencies"]]
    assert listed == [f"python{_project()['requires-python']}", "pip", *wanted]


def test_conda_gets_every_extra() -> None:
    """environment.yml installs all extras of pyproject.toml by pip."""
    extras = re.search(r"--editable \.\[(.*)\]", (ROOT / "environment.yml").read_text())
    assert extras is not None
    assert extras[1].split(",") == sorted(_project()["optional-dependencies"])


def test_every_dependency_has_a_lower_bound_only() -> None:
    """Each dependency names the oldest release that will do, and no upper bound."""
    for dependency in _project()["dependencies"]:
        assert re.fullmatch(r"[a-z0-9_-]+(\[[a-z]+\])?>=[0-9.]+", dependency), dependency


def test_changelog_fragments_are_well_formed() -> None:
    """Each fragment is named <issue>.<type>.md and says something, and towncrier renders them."""
    for fragment in (ROOT / "changelog.d").iterdir():
        assert re.fullmatch(r"\d+\.(added|changed|fixed|security)(\.\d+)?\.md", fragment.name)
        assert fragment.read_text().strip().endswith(".")
    draft = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "0.0.0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "## 0.0.0" in draft.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link in the documentation names a file that is there, and a heading that the page has."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if heading:
            assert heading in _anchors(linked), target


def test_every_decision_has_its_four_parts() -> None:
    """A page of docs/adr tells problem, decision, what was rejected and consequences, and is listed."""
    listed = (ROOT / "docs/adr/README.md").read_text()
    decisions = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    assert decisions
    for page in decisions:
        headings = re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)
        assert headings == ["Problem", "Decision", "Rejected", "Consequences"], page.name
        assert re.match(rf"# {page.name[:4]}: ", page.read_text())
        assert f"]({page.name})" in listed, page.name


def test_make_targets_of_the_documentation_exist() -> None:
    """Every `make target` that a page names is one that the Makefile has and that `make help` lists."""
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for page in PAGES:
        for target in re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text()):
            assert re.search(rf"^  make {target}\s", listed, re.MULTILINE), (page.name, target)


def test_nothing_names_a_place_of_one_machine() -> None:
    """No file holds a path of somebody's home or workplace."""
    of_one_machine = re.compile(r"/(?:work|home|Users|root)/[A-Za-z.]|/tmp/[a-z]/")
    for path in _files():
        if path.suffix in _TEXT and path != Path(__file__):
            found = of_one_machine.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path.relative_to(ROOT)}: {found[0]}"


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub and Jupyter give a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
