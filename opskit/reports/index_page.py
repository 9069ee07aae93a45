"""The page on every report: for people, on any screen, without any network, and whole without its script."""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from html import escape
from typing import Any
from urllib.parse import quote

from opskit.reports.format import format_bytes, format_duration
from opskit.reports.page import MARKS, TEMPLATES
from opskit.reports.plot import BYTES, SECONDS, Point, plot
from opskit.reports.report import Files, Report, ReportedBackup
from opskit.reports.view import time_and_local
from opskit.version import __version__

_MARKS = {**MARKS, "running": "▸", "unknown": "?"}
_PLOTTED = 400


def render_index(reports: Sequence[Report], made_at: datetime) -> str:
    """The page that shows `reports`, newest first."""
    script = (TEMPLATES / "index" / "index.js").read_text(encoding="utf-8")
    by_cluster: dict[str, list[Report]] = defaultdict(list)
    for report in reports:
        by_cluster[report.cluster].append(report)
    return str(
        _template().render(
            version=__version__,
            made_at=_moment(made_at),
            style=_style(),
            script=script,
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            count=_counted(len(reports), "run"),
            outcomes=_outcomes(reports),
            changed=[report for report in reports if report.files is Files.CHANGED],
            clusters={name: _cluster(by_cluster[name]) for name in sorted(by_cluster)},
            runbooks=sorted({report.runbook for report in reports}),
            rows=[_row(report) for report in reports],
        )
    )


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES / "index"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html.j2")


def _style() -> str:
    shared = (TEMPLATES / "opskit" / "style.css").read_text(encoding="utf-8")
    return shared + (TEMPLATES / "index" / "index.css").read_text(encoding="utf-8")


def _outcomes(reports: Sequence[Report]) -> str:
    """How many runs ended how, the rarest news last: ``41 passed, 2 failed``."""
    counts = dict.fromkeys(_MARKS, 0)
    for report in reports:
        counts[report.outcome] = counts.get(report.outcome, 0) + 1
    return ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items() if count)


def _cluster(reports: Sequence[Report]) -> Mapping[str, Any]:
    """What stands on top about one cluster: the last run of each runbook, and how its backups change."""
    last: dict[str, Report] = {}
    for report in reports:
        last.setdefault(report.runbook, report)
    backups = {b.name: b for report in reversed(reports) for b in report.backups}
    return {
        "last": [_shown(last[runbook]) for runbook in sorted(last)],
        "plots": _plots([backups[name] for name in sorted(backups)][-_PLOTTED:]),
    }


def _plots(backups: Sequence[ReportedBackup]) -> list[tuple[str, str]]:
    if not backups:
        return []
    sizes = [Point(b.started_at, b.stored_bytes, b.name) for b in backups]
    durations = [Point(b.started_at, b.duration.total_seconds(), b.name) for b in backups]
    return [
        ("Backups made or used, by size", plot("Size of backups", sizes, format_bytes, BYTES)),
        ("How long each took", plot("Duration of backups", durations, _took, SECONDS)),
    ]


def _took(seconds: float) -> str:
    return format_duration(timedelta(seconds=seconds))


def _shown(report: Report) -> Mapping[str, Any]:
    """A report as the template shows it."""
    return {
        "report": report,
        "mark": _MARKS.get(report.outcome, "?"),
        "started": _moment(report.started_at),
        "took": "" if report.duration is None else format_duration(report.duration),
        "told": _told(report),
        "href": f"{quote(report.name, errors='surrogateescape')}.html"
        if ".html" in report.suffixes
        else "",
    }


def _told(report: Report) -> str:
    """The reason, or how many checks passed and were not run."""
    if report.reason or report.outcome != "passed":
        return report.reason
    passed, _, not_run = report.checks
    return f"{_counted(passed, 'check')} passed" + (f", {not_run} not run" if not_run else "")


def _row(report: Report) -> str:
    """One row of the table; written without the template, for there may be ten thousand."""
    seconds = -1.0 if report.duration is None else report.duration.total_seconds()
    took = "" if report.duration is None else format_duration(report.duration)
    name, runbook = quote(report.name, errors="surrogateescape"), escape(report.runbook)
    links = [
        f'<a href="{name}{suffix}">{suffix[1:]}</a>'
        for suffix in (".html", ".ipynb", ".json")
        if suffix in report.suffixes
    ]
    title = f'<a href="{name}.html">{runbook}</a>' if ".html" in report.suffixes else runbook
    outcome = escape(report.outcome)
    when = _moment(report.started_at).replace(" (", "<br>(")
    return (
        f'<tr class="{outcome}" data-cluster="{escape(report.cluster)}" data-runbook="{runbook}">'
        f'<td data-value="{report.started_at.timestamp():.3f}" class="when">{when}</td>'
        f'<td>{escape(report.cluster)}</td><th scope="row">{title}</th>'
        f'<td><span class="badge"><span aria-hidden="true">{_MARKS.get(report.outcome, "?")}</span> {outcome}</span>'
        f' <span class="told">{escape(_told(report))}</span></td>'
        f'<td data-value="{seconds:.3f}" class="number">{took}</td>'
        f"<td>{_files(report)}</td>"
        f"<td>{escape(report.actor)} on {escape(report.host)}</td>"
        f'<td class="links">{" ".join(links)}</td></tr>'
    )


def _files(report: Report) -> str:
    """Whether the files are as recorded, in a word, with what was compared when behind it."""
    if report.files is None:
        return "–"
    checked = f"read {time_and_local(report.checked_at)}" if report.checked_at else ""
    if report.files is Files.CHANGED:
        return f'<strong class="bad" title="{escape(checked)}">changed: {escape(report.changed)}</strong>'
    told = f"{report.files}{', signed' if report.signed else ''}"
    return f'<span title="{escape(checked)}">{told}</span>'


def _moment(at: datetime) -> str:
    stamp = at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return f'<time datetime="{stamp}">{escape(time_and_local(at))}</time>'


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s'[: number != 1]}"
