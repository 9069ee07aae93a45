"""The bench measures what it says it does."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIGURE = re.compile(r"\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)")


def test_every_row_has_figures(scratch: Path) -> None:
    """A small run ends with a report in which every side of every contest has its time, and opskit its memory."""
    report = scratch / "report.md"
    # Without pgBackRest and Barman: they are not everywhere, and their waiting for WAL takes longer than all the rest.
    options = ["--scale", "0.05", "--rounds", "1", "--relations", "400", "--no-peers"]
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
    assert len(measured) == 3 + 3 + 2 + 3 + 3 + 2, text
    assert len(rows) - len(measured) == 5, text
    for row in measured:
        assert len(FIGURE.findall(row)) == (2 if re.match(r"\| opskit [a-z-]+ \|", row) else 3), row
    assert list(scratch.iterdir()) == [report], "the work directory is removed"
