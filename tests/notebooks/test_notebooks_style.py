"""Every notebook that is shipped looks like the others: short cells, told in order, without outputs."""

import ast
import itertools
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "runbooks").glob("*.ipynb")])
RUNBOOKS = [path for path in NOTEBOOKS if path.parent.name == "runbooks"]
SECTIONS = [
    "About",
    "Parameters",
    "Bind",
    "Preconditions",
    "Plan",
    "Execute",
    "Verify",
    "Outcome",
    "If it failed",
]
LOGIC = (
    ast.FunctionDef
    | ast.AsyncFunctionDef
    | ast.ClassDef
    | ast.Try
    | ast.For
    | ast.While
    | ast.If
    | ast.comprehension
)


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


all_notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=_name)
all_runbooks = pytest.mark.parametrize("path", RUNBOOKS, ids=_name)


def test_there_are_notebooks() -> None:
    """The tests below look at something."""
    assert {_name(path) for path in NOTEBOOKS} >= {
        "notebooks/start_here",
        "notebooks/backups",
        "notebooks/reports",
        "notebooks/clusters",
        "runbooks/scheduled_backup",
        "runbooks/local_restore",
        "runbooks/point_in_time_restore",
        "runbooks/repository_health",
    }


@all_notebooks
def test_it_has_no_outputs(path: Path) -> None:
    """A master is a master: nothing of a run is committed with it."""
    for cell in _read(path).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@all_notebooks
def test_it_is_a_valid_notebook(path: Path) -> None:
    """It follows the format, with a kernel called python3, and files end with a line feed."""
    notebook = _read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.read_text(encoding="utf-8").endswith("}\n")


@all_notebooks
def test_it_begins_with_its_only_headline(path: Path) -> None:
    """One H1, in the first cell, with a paragraph below it."""
    cells = _read(path).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    lines = [line for c in cells if c.cell_type == "markdown" for line in c.source.splitlines()]
    assert sum(line.startswith("# ") for line in lines) == 1
    assert len([block for block in cells[0].source.split("\n\n") if block.strip()]) >= 2


@all_notebooks
def test_cells_are_short_and_hold_no_logic(path: Path) -> None:
    """Code cells have one to five lines, without functions, branches, loops and shell escapes."""
    for cell in _read(path).cells:
        if cell.cell_type == "code":
            assert 1 <= len([line for line in cell.source.splitlines() if line.strip()]) <= 5
            tree = ast.parse(cell.source)  # a shell escape or a magic is no Python
            assert not [node for node in ast.walk(tree) if isinstance(node, LOGIC)]


@all_notebooks
def test_every_code_cell_is_told_before(path: Path) -> None:
    """A markdown cell before each code cell says what it does and what you should see."""
    cells = _read(path).cells
    for before, cell in itertools.pairwise(cells):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown"


@all_runbooks
def test_a_runbook_has_its_sections_in_order(path: Path) -> None:
    """Whoever knows one runbook finds their way in every other."""
    cells = [cell for cell in _read(path).cells if cell.cell_type == "markdown"]
    lines = [line for cell in cells for line in cell.source.splitlines()]
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == SECTIONS


@all_runbooks
def test_a_runbook_keeps_the_contract(path: Path) -> None:
    """The first code cell declares, the second binds, the last finishes; no widgets; each parameter has its help."""
    code = [cell for cell in _read(path).cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [code[0]]
    assert all("  # " in line for line in code[0].source.splitlines())
    assert "run = opskit.runbook(globals())" in code[1].source
    assert code[-1].source == "run.finish()"
    assert "widgets" not in "".join(cell.source for cell in code)


@all_runbooks
def test_a_runbook_says_its_pass_conditions(path: Path) -> None:
    """Preconditions, verification and outcome each say in bold what must hold."""
    section, bold = "", set()
    for cell in _read(path).cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                section = line.removeprefix("## ") if line.startswith("## ") else section
            bold |= {section} if "**" in cell.source else set()
    assert bold >= {"Preconditions", "Verify", "Outcome"}
