"""The panel that compares clusters: sizes, growth, how far the archive is, beside one another and over time."""

import threading
from html import escape
from pathlib import Path

import ipywidgets
import pandas as pd

from opskit.comparison import (
    PATIENCE_SECONDS,
    ClusterState,
    Questions,
    open_clusters,
    read_states,
    table_of,
)
from opskit.config import Settings, load_settings
from opskit.reports.comparison import bars
from opskit.reports.format import format_bytes
from opskit.reports.plot import BYTES, Point, plot
from opskit.widgets._board import Board
from opskit.widgets.table import Table

_SECONDS = 60.0
_BARS = 12
_PLOTTED = 400
_TITLES = {
    "newest_age": "age_of_newest",
    "cluster_bytes": "size_bytes",
    "growth_per_day_bytes": "daily_growth_bytes",
    "archive_at": "archived_at",
    "due_at": "next_due_at",
}
_COLUMNS = [
    *("cluster", "age_of_newest", "backups", "size_bytes", "daily_growth_bytes", "stored_bytes"),
    *("archived_at", "behind_bytes", "next_due_at"),
]


def clusters_panel(config: Path | str | None = None) -> "ClustersPanel":
    """A panel that compares all configured clusters; parameters and errors as `opskit.cluster`."""
    return ClustersPanel(load_settings(Path(config) if config else None))


class ClustersPanel(Board):
    """All clusters in one table, the largest as bars, a chosen one over time; displayed as the value of a cell."""

    def __init__(self, settings: Settings, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.clusters = open_clusters(settings)
        self._questions = Questions(self.clusters)
        self._patience = patience_seconds
        self._states: dict[str, ClusterState] = {}
        self._asking = threading.Lock()
        super().__init__("Clusters compared", settings, _SECONDS)

    def _parts(self) -> list[ipywidgets.Widget]:
        self.table = Table(
            _frame([]),
            key="cluster",
            label="Clusters",
            empty="No cluster is configured.",
        )
        self.table.on_choose(self._clicked(self._draw))
        self.plots = ipywidgets.HTML()
        self.plots.add_class("opskit-plots")
        listed = ipywidgets.Box([self.table.widget])
        for name in ("opskit-filed", "opskit-compared"):
            listed.add_class(name)
        return [listed, self.plots]

    def _read(self) -> str:
        states = {state.cluster: state for state in read_states(self.clusters)}
        with self._lock:
            self._states = {
                name: state.heard(self._states.get(name)) for name, state in states.items()
            }
            summary = self._told()
        if self._asking.acquire(blocking=False):
            threading.Thread(target=self._ask, name="opskit panel's questions", daemon=True).start()
        return summary

    def _ask(self) -> None:
        try:
            for state in self._questions.ask(dict(self._states), self._patience):
                with self._lock:
                    self._states[state.cluster] = state
        finally:
            self._asking.release()
            self._tell(self._told())

    def _told(self) -> str:
        states = self._states.values()
        stored = sum(state.stored_bytes for state in states)
        backups = sum(len(state.backups) for state in states)
        return (
            f"{len(states):,} cluster{'s'[: len(states) != 1]}, {backups:,} backup{'s'[: backups != 1]},"
            f" {format_bytes(stored)} stored"
        )

    def _draw(self) -> None:
        self.table.show(_frame(list(self._states.values())))
        chosen = [self._states[name] for name in self.table.chosen if name in self._states]
        self.plots.value = (
            _over_time(chosen[0]) if chosen else _largest(list(self._states.values()))
        )

    def _lines(self) -> list[str]:
        frame = _frame(list(self._states.values()))
        return [frame.to_string(index=False)] if len(frame) else []


def _frame(states: list[ClusterState]) -> pd.DataFrame:
    """What of the comparison fits into a panel."""
    return table_of(states).rename(columns=_TITLES)[_COLUMNS]


def _largest(states: list[ClusterState]) -> str:
    """The clusters that take most, as bars."""
    sizes = {s.cluster: s.newest.cluster_bytes for s in states if s.newest is not None}
    stored = {s.cluster: s.stored_bytes for s in states if s.backups}
    shown = [("Largest clusters", sizes), ("Most stored", stored)]
    return "".join(
        f"<figure>{bars(title, _top(values))}</figure>" for title, values in shown if values
    )


def _top(values: dict[str, int]) -> dict[str, int]:
    return dict(sorted(values.items(), key=lambda item: item[1], reverse=True)[:_BARS])


def _over_time(state: ClusterState) -> str:
    """One cluster's backups over time."""
    backups = state.backups[:_PLOTTED]
    shown = {
        "size": [Point(b.started_at, b.cluster_bytes, b.name) for b in backups],
        "stored by each backup": [Point(b.started_at, b.stored_bytes, b.name) for b in backups],
    }
    return "".join(
        f"<figure><figcaption>{escape(f'{state.cluster}: {what}')}</figcaption>"
        f"{plot(f'{state.cluster}: {what}', points, format_bytes, BYTES)}</figure>"
        for what, points in shown.items()
    )
