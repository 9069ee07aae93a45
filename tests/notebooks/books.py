"""Small runbooks for tests, and settings that need no server."""

import os
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
# What a runbook leaves behind must not outlive it: a process in a session of its own.
LEAVE = 'import subprocess\nsubprocess.Popen(["sleep", "86399"], start_new_session=True)'
SLEEP = "import time\ntime.sleep(600)"


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


def write_settings(
    directory: Path, clusters: Sequence[str] = ("main",), reports: Path | None = None
) -> Settings:
    """Settings of clusters that nobody connects to; reports are below the directory, or elsewhere."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "opskit.toml"
    lines = ["[repository]", f'url = "{(directory / "repository").as_uri()}"']
    if reports is not None:
        lines += ["[reports]", f'directory = "{reports}"']
    for cluster in clusters:
        lines += [f"[clusters.{cluster}]", 'conninfo = "service=nowhere"']
    file.write_text("\n".join(lines), encoding="utf-8")
    return load_settings(file)


def left_over(mark: str) -> list[int]:
    """The processes whose command line or environment holds `mark`, this one left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                content = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in content:
                found.append(int(entry.name))
    return found
