"""The bench measures what it says it does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.agenda import ROWS

ROOT = Path(__file__).parents[2]
FIGURE = re.compile(r"\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)")

# The sides of each row's contests, and how many of the contests weigh opskit's memory.
SIDES = {
    "full": (3, 1),
    "again": (1, 1),
    "restore": (2, 1),
    "download": (2, 1),
    "verify": (2, 0),
    "start": (2, 0),
    "week": (2, 1),
    "chain": (3, 1),
    "consolidate": (3, 1),
    "increments": (10, 5),
    "crowded": (7, 2),
    "stream": (4, 1),
    "push": (3, 1),
    "get": (2, 1),
    "recovery": (4, 0),
    "busy": (3, 1),
    "fleet": (6, 0),
}
# Two Jupyter Servers take as long to start as the rest of a small run, and pgBackRest and Barman are not everywhere.
EVERYWHERE = tuple(row for row in ROWS if row not in ("jupyter", "peers"))
# Of each way to measure one: full backups, a chain, WAL that flows, WAL by a process for each segment.
SOME = ("full", "week", "chain", "stream", "get")


@pytest.mark.parametrize("rows", [SOME, pytest.param(EVERYWHERE, marks=pytest.mark.sweep)])
def test_rows_have_figures(rows: tuple[str, ...], scratch: Path) -> None:
    """A small run ends with a report in which every side of every contest has its time, and opskit its memory."""
    report = scratch / "report.md"
    options = ["--scale", "0.05", "--rounds", "1", "--days", "1", "--relations", "400"]
    options += ["--clusters", "100", "--no-peers", "--rows", ",".join(rows)]
    places = ["--directory", str(scratch), "--write", str(report)]
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *options, *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    text = report.read_text(encoding="utf-8")
    assert text.strip() == ended.stdout.strip()
    assert "did not run" not in text
    contests = text.partition("\n## ")[2]
    measured = [line for line in contests.splitlines() if FIGURE.search(line)]
    assert len(measured) == sum(SIDES[row][0] for row in rows), text
    for line in measured:
        is_opskit = re.match(r"\| (opskit[a-z -]*|restore_command = 'opskit wal get …') \|", line)
        assert len(FIGURE.findall(line)) in ((2, 3) if is_opskit else (3,)), line
    weighed = [line for line in contests.splitlines() if "< 300 MiB" in line]
    assert len(weighed) == sum(SIDES[row][1] for row in rows), text
    drawn = scratch / "report.svg"
    assert f"]({drawn.name})" in text
    assert set(scratch.iterdir()) == {report, drawn}, "the work directory is removed"


@pytest.mark.sweep
def test_downloads_through_jupyter_have_figures(scratch: Path) -> None:
    """A small run of that row has both sides' times, the memory of the servers and their slowest answers."""
    options = ["--scale", "0.05", "--rounds", "1", "--rows", "jupyter", "--directory", str(scratch)]
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    contests = ended.stdout.partition("\n## ")[2]
    measured = [line for line in contests.splitlines() if FIGURE.search(line)]
    assert [len(FIGURE.findall(row)) for row in measured if row.startswith("|")] == [2, 3]
    assert ended.stdout.count("the server's memory grew by up to") == 2
    assert ended.stdout.count("the slowest answer to somebody else took") == 2
    assert list(scratch.iterdir()) == [], "the work directory is removed"


def test_unknown_rows_are_refused() -> None:
    """A row that there is none of is named, and nothing is measured."""
    ended = subprocess.run(
        [sys.executable, "-m", "bench", "--rows", "restore,speed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "there are no rows speed" in ended.stderr
