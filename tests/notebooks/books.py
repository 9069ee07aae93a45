"""Small runbooks for tests, and settings that need no server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from opskit.config import Settings, load_settings

PARAMETERS = """
cluster: str = "main"  # what it works on
note: str = ""  # anything
times: int = 1  # how often
dry_run: bool = False  # whether to pretend
"""
BIND = "import opskit\n\nrun = opskit.runbook(globals())"
PASS = 'with run.step("Think"):\n    run.check("one is one", 1 == 1)'
FINISH = "run.finish()"


def notebook(*cells: str, parameters: str = PARAMETERS) -> Any:
    """A notebook with a title, the cell of parameters, and code cells."""
    first = nbformat.v4.new_code_cell(parameters.strip())
    first.metadata.tags = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# A small book\n\nIt is for tests.\n\n## Parameters"),
            first,
            *(nbformat.v4.new_code_cell(cell) for cell in cells),
        ],
        metadata={"kernelspec": kernel},
    )


def write_book(directory: Path, name: str, *cells: str) -> Path:
    """Write a master that binds itself, runs `cells` and nothing more."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.ipynb"
    nbformat.write(notebook(BIND, *cells), path)
    return path


def write_settings(directory: Path, clusters: Sequence[str] = ("main",)) -> Settings:
    """Settings of clusters that nobody connects to."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "opskit.toml"
    lines = ["[repository]", f'url = "{(directory / "repository").as_uri()}"']
    for cluster in clusters:
        lines += [f"[clusters.{cluster}]", 'conninfo = "service=nowhere"']
    file.write_text("\n".join(lines), encoding="utf-8")
    return load_settings(file)
