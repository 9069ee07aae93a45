"""The panel on executed runbooks: what was run, how it ended, and the way to its notebook and its page."""

from html import escape
from pathlib import Path

import ipywidgets
import pandas as pd

from opskit.config import Settings, load_settings
from opskit.reports.format import format_time
from opskit.reports.index import PAGE, read_reports
from opskit.reports.report import Files, Report
from opskit.reports.tables import reports_table
from opskit.widgets._board import Board
from opskit.widgets._served import jupyter_server, link
from opskit.widgets.table import Table

_SECONDS = 10.0
_ALL = "all"
_FILTERS = {"cluster": "Cluster", "runbook": "Runbook", "outcome": "Outcome"}
_SHOWN = ["run", "outcome", "started_at", "duration", "files", "reason"]
_MARKS = {"passed": "✓", "failed": "✕", "died": "✕", "aborted": "■", "running": "●"}


def reports_panel(config: Path | str | None = None) -> "ReportsPanel":
    """A panel on the reports of all configured clusters; parameters and errors as `opskit.cluster`."""
    return ReportsPanel(load_settings(Path(config) if config else None))


class ReportsPanel(Board):
    """Executed runbooks, to be filtered and opened; displayed as the value of a cell."""

    def __init__(self, settings: Settings) -> None:
        self._reports: dict[str, Report] = {}
        self._served = jupyter_server()
        super().__init__("Runbook reports", settings, _SECONDS)

    def _parts(self) -> list[ipywidgets.Widget]:
        self.filters = {
            column: ipywidgets.Dropdown(
                options=[_ALL], value=_ALL, description=title, tooltip=f"Show one {column} only"
            )
            for column, title in _FILTERS.items()
        }
        for control in self.filters.values():
            control.observe(self._clicked(self._draw), "value")
        self.table = Table(
            self._frame([]),
            key="run",
            label="Executed runbooks, newest first",
            empty="No runbook was run yet. Run one: 'opskit runbook run scheduled_backup main'.",
        )
        self.table.on_choose(self._clicked(self._draw))
        self.detail = ipywidgets.HTML()
        filters = ipywidgets.HBox(list(self.filters.values()))
        filters.add_class("opskit-actions")
        filed = ipywidgets.Box([self.table.widget])
        filed.add_class("opskit-filed")
        return [filters, filed, self.detail]

    def _read(self) -> str:
        reports = read_reports(self.settings.reports_directory)
        with self._lock:
            self._reports = {_run(report): report for report in reports}
            for column, control in self.filters.items():
                there = sorted({str(getattr(report, column)) for report in reports})
                if control.options != (_ALL, *there):
                    chosen = control.value if control.value in there else _ALL
                    control.options = (_ALL, *there)
                    control.value = chosen
        changed = sum(report.files is Files.CHANGED for report in reports)
        outcomes = pd.Series([report.outcome for report in reports], dtype="string").value_counts()
        told = [f"{count:,} {outcome}" for outcome, count in outcomes.items()]
        told += [f"{changed:,} changed since they were filed"] if changed else []
        return f"{len(reports):,} run{'s'[: len(reports) != 1]}" + (
            f": {', '.join(told)}" if told else ""
        )

    def _draw(self) -> None:
        chosen = self._matching()
        self.table.show(self._frame(chosen))
        names = self.table.chosen
        report = self._reports.get(names[0]) if names else None
        self.detail.value = self._opened(report) if report is not None else self._index()

    def _matching(self) -> list[Report]:
        return [
            report
            for report in self._reports.values()
            if all(
                control.value in (_ALL, getattr(report, column))
                for column, control in self.filters.items()
            )
        ]

    def _frame(self, reports: list[Report]) -> pd.DataFrame:
        outcomes = [f"{_MARKS.get(report.outcome, '?')} {report.outcome}" for report in reports]
        frame = reports_table(reports, self.settings.reports_directory).assign(
            outcome=pd.Series(outcomes, dtype="string"),
            run=pd.Series([_run(report) for report in reports], dtype="string"),
        )
        return frame[_SHOWN]

    def _opened(self, report: Report) -> str:
        """The way to a report, and whether it is as it was filed."""
        directory = self.settings.reports_directory
        rows = {
            "Outcome": f"{report.outcome}{': ' if report.reason else ''}{report.reason}",
            "By": f"{report.actor} on {report.host}, {format_time(report.started_at)}",
            "Evidence": _evidence(report),
        }
        listed = "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in rows.items())
        files = {
            ".html": ("page", "Open", False),
            ".ipynb": ("executed notebook", "Open in JupyterLab", True),
            ".json": ("record", "Open", False),
        }
        links = [
            self._link(directory / f"{report.name}{suffix}", text, title, in_lab)
            for suffix, (text, title, in_lab) in files.items()
            if suffix in report.suffixes
        ]
        return (
            f'<div class="opskit-chosen"><b>{escape(report.runbook)} on {escape(report.cluster)}</b><dl>{listed}'
            f"<dt>Open</dt><dd>{' · '.join(links) or 'there is nothing to open yet'}</dd></dl></div>"
        )

    def _index(self) -> str:
        page = self.settings.reports_directory / PAGE
        if not page.exists():
            return ""
        return (
            '<p class="opskit-empty">Select a run to open it. All of them are on one page: '
            f"{self._link(page, 'index', 'Open', False)}</p>"
        )

    def _link(self, file: Path, text: str, title: str, in_lab: bool) -> str:
        """A link where the server serves the file; else where it is, to be opened by other means."""
        url = None
        if self._served is not None:
            url = self._served.document(file) if in_lab else self._served.page(file)
        return (
            link(url, text, title) if url else f"{escape(text)} at <code>{escape(str(file))}</code>"
        )

    def _lines(self) -> list[str]:
        frame = self._frame(self._matching())
        return [frame.to_string(index=False)] if len(frame) else []


def _run(report: Report) -> str:
    """How a run is called in the table: ``main/20261122T140305Z-local_restore``."""
    return f"{report.cluster}/{report.name.rpartition('/')[2]}"


def _evidence(report: Report) -> str:
    """Whether the files are as recorded, and what that is worth."""
    if report.files is None:
        return "none while it runs"
    changed = f": {report.changed}" if report.changed else ""
    signed = (
        ", signed" if report.signed else ", not signed" if report.files is Files.AS_RECORDED else ""
    )
    return f"{report.files}{changed}{signed}; 'opskit audit verify' tells whether the record is genuine"
