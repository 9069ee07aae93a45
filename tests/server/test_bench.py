"""The bench measures what it says it does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.agenda import ROWS

ROOT = Path(__file__).parents[2]
FIGURE = re.compile(r"\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)")


def test_every_row_has_figures(scratch: Path) -> None:
    """A small run ends with a report in which every side of every contest has its time, and opskit its memory."""
    report = scratch / "report.md"
    # Without pgBackRest and Barman: they are not everywhere, and their waiting for WAL takes longer than all the rest.
    options = ["--scale", "0.05", "--rounds", "1", "--relations", "400", "--no-peers"]
    # Two Jupyter Servers take as long to start as the rest of a small run: the sweep has that row.
    options += ["--clusters", "100", "--rows", ",".join(row for row in ROWS if row != "jupyter")]
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
    rows = [line for line in text.splitlines() if re.match(r"\| [^|]", line)]
    measured = [row for row in rows if "MiB" not in row]
    of_large, crowded, of_log = 3 + 3 + 2 + 2, 4 + 3, 4 + 3 + 2 + 4 + 3
    of_fleet = 2 + 2 + 2
    assert len(measured) == of_large + crowded + of_log + of_fleet, text
    assert "did not run" not in text
    weighed = len(rows) - len(measured)
    assert weighed == 3 + 2 + 4, text
    for row in measured:
        is_opskit = re.match(r"\| (opskit [a-z -]+|restore_command = 'opskit wal get …') \|", row)
        assert len(FIGURE.findall(row)) in ((2, 3) if is_opskit else (3,)), row
    assert list(scratch.iterdir()) == [report], "the work directory is removed"


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
    measured = [line for line in ended.stdout.splitlines() if FIGURE.search(line)]
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
