"""The figures as Markdown: for a terminal, and for ``docs/benchmarks``."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from bench.contest import Contest, Side, Spread
from opskit.reports.format import format_bytes

MEBIBYTE = 1 << 20
MOST_MEMORY_BYTES = 300 * MEBIBYTE
_HEADS = (
    "seconds",
    "CPU seconds",
    "server's CPU",
    "memory",
    "server's memory",
    "stored",
    "opskit takes, times of it",
    "aim",
    "",
)
_ALWAYS_SHOWN = (0, 1, 6)
_TICKS = 0.02


def table(contest: Contest) -> str:
    """A contest's figures; a column of which nobody has any is left out."""
    rows = [
        _cells(contest, side)
        for side in (contest.opskit, *contest.others)
        if side.name not in contest.failures
    ]
    shown = [
        n
        for n in range(len(_HEADS))
        if n in _ALWAYS_SHOWN or {cells[n + 1] for cells in rows} - {""}
    ]
    lines = [
        f"### {contest.title}",
        "",
        contest.note,
        "",
        row(["", *(_HEADS[n] for n in shown)]),
        "|---" * (len(shown) + 1) + "|",
        *(row([cells[0], *(cells[n + 1] for n in shown)]) for cells in rows),
    ]
    for name, reason in contest.failures.items():
        lines.append(row([name, f"did not run: {reason}", *[""] * (len(shown) - 1)]))
    facts = contest.facts()
    if facts:
        lines += ["", *(f"- {fact}" for fact in facts)]
    return "\n".join(lines) + "\n"


def memory_table(contests: Sequence[Contest]) -> str:
    """The peak memory of opskit's process in each contest, over all rounds."""
    lines = [
        "### Memory",
        "",
        "The most that opskit's processes had resident together, of all rounds and scales.",
        "",
        "| | peak memory | aim | |",
        "|---|---|---|---|",
    ]
    peaks: dict[str, int] = {}
    for contest in contests:
        seen = max(cost.peak_bytes for cost in contest.costs[contest.opskit.name].values())
        peaks[contest.title] = max(peaks.get(contest.title, 0), seen)
    for title, peak in peaks.items():
        met = "met" if peak < MOST_MEMORY_BYTES else "**missed**"
        lines.append(f"| {title} | {peak / MEBIBYTE:.0f} MiB | < 300 MiB | {met} |")
    return "\n".join(lines) + "\n"


def machine(directory: Path) -> Iterator[str]:
    """What ran where, as lines of a list."""
    yield f"Processor: {_processor()}, {os.cpu_count()} cores; Linux {platform.release()}"
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield f"Memory: {pages / (1 << 30):.0f} GiB; file system: {_file_system(directory)}"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("psycopg", "zstandard", "obstore"))
    yield f"opskit {version('opskit')}, Python {platform.python_version()}, {libraries}"
    yield f"{_first_line('zstd', '--version')}; {_first_line('tar', '--version')}"


def row(cells: Sequence[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def spread_text(spread: Spread) -> str:
    """The median, and what lies around it."""
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def verdict(spread: Spread, at_most: float) -> str:
    """Whether an aim is met by the median."""
    return "met" if spread.median <= at_most else "**missed**"


def _cells(contest: Contest, side: Side) -> list[str]:
    """The name, and a text for each head."""
    costs = list(contest.costs[side.name].values())
    own = [
        side.name,
        spread_text(Spread.of([cost.seconds for cost in costs])),
        spread_text(Spread.of([cost.cpu_seconds for cost in costs])),
        _median([cost.server_cpu_seconds for cost in costs]),
        _mebibytes([cost.peak_bytes for cost in costs]) if _watched(contest) else "",
        _mebibytes([cost.server_peak_bytes or 0 for cost in costs]),
        _stored([cost.stored_bytes for cost in costs]),
    ]
    if side is contest.opskit:
        return [*own, "", "", ""]
    ratios = contest.ratios(side)
    if side.at_most is None:
        return [*own, spread_text(ratios), "", ""]
    return [*own, spread_text(ratios), f"≤ {side.at_most:g}", verdict(ratios, side.at_most)]


def _watched(contest: Contest) -> bool:
    return any(
        cost.server_cpu_seconds is not None for cost in contest.costs[contest.opskit.name].values()
    )


def _median(figures: Sequence[float | None]) -> str:
    known = [figure for figure in figures if figure is not None]
    # the clock that the kernel counts by ticks a hundred times a second, and an idle server ticks, too
    return f"{Spread.of(known).median:.2f}" if known and max(known) > _TICKS else ""


def _mebibytes(figures: Sequence[int]) -> str:
    return f"{max(figures) / MEBIBYTE:.0f} MiB" if max(figures) else ""


def _stored(figures: Sequence[int | None]) -> str:
    known = [float(figure) for figure in figures if figure is not None]
    return format_bytes(round(Spread.of(known).median)) if known else ""


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
