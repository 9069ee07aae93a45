"""The figures as Markdown: for a terminal, and for ``docs/benchmarks``."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from bench.contest import Contest, Side, Spread

MEBIBYTE = 1 << 20
MOST_MEMORY_BYTES = 300 * MEBIBYTE


def table(contest: Contest) -> str:
    """A contest's figures."""
    lines = [
        f"### {contest.title}",
        "",
        contest.note,
        "",
        "| | seconds | CPU seconds | opskit takes, times of it | aim | |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(_cells(contest, side)) for side in (contest.opskit, *contest.others)]
    for name, reason in contest.failures.items():
        if name not in {side.name for side in contest.others}:
            lines.append(_row([name, f"did not run: {reason}", "", "", "", ""]))
    facts = contest.facts()
    if facts:
        lines += ["", *(f"- {fact}" for fact in facts)]
    return "\n".join(lines) + "\n"


def memory_table(contests: Sequence[Contest]) -> str:
    """The peak memory of opskit's process in each contest, over all rounds."""
    lines = [
        "### Memory",
        "",
        "The largest resident memory of the process of its own that each command is.",
        "",
        "| | peak memory | aim | |",
        "|---|---|---|---|",
    ]
    for contest in contests:
        peak = max(cost.peak_bytes for cost in contest.costs[contest.opskit.name])
        met = "met" if peak < MOST_MEMORY_BYTES else "**missed**"
        lines.append(f"| {contest.title} | {peak / MEBIBYTE:.0f} MiB | < 300 MiB | {met} |")
    return "\n".join(lines) + "\n"


def machine(directory: Path) -> Iterator[str]:
    """What ran where, as lines of a list."""
    yield f"Processor: {_processor()}, {os.cpu_count()} cores; Linux {platform.release()}"
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield f"Memory: {pages / (1 << 30):.0f} GiB; file system: {_file_system(directory)}"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("psycopg", "zstandard", "obstore"))
    yield f"opskit {version('opskit')}, Python {platform.python_version()}, {libraries}"
    yield f"{_first_line('zstd', '--version')}; {_first_line('tar', '--version')}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cells(contest: Contest, side: Side) -> list[str]:
    if side.name in contest.failures:
        return [side.name, f"did not run: {contest.failures[side.name]}", "", "", "", ""]
    costs = contest.costs[side.name]
    cells = [
        side.name,
        _spread(Spread.of([cost.seconds for cost in costs])),
        _spread(Spread.of([cost.cpu_seconds for cost in costs])),
    ]
    if side is contest.opskit:
        return [*cells, "", "", ""]
    ratios = contest.ratios(side)
    if side.at_most is None:
        return [*cells, _spread(ratios), "", ""]
    met = "met" if ratios.median <= side.at_most else "**missed**"
    return [*cells, _spread(ratios), f"≤ {side.at_most:g}", met]


def _spread(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    asked = ["stat", "--file-system", "--format=%T", str(directory)]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def _first_line(program: str, argument: str) -> str:
    if shutil.which(program) is None:
        return f"no {program}"
    said = subprocess.run([program, argument], capture_output=True, text=True, check=False).stdout
    return said.strip().splitlines()[0].strip("* ")
