"""The panel to begin with: how every configured cluster is, and where to go on."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import ipywidgets

from opskit.comparison import (
    PATIENCE_SECONDS,
    ClusterState,
    Questions,
    open_clusters,
    read_states,
)
from opskit.config import Settings, load_settings
from opskit.widgets._board import Board
from opskit.widgets._health import Health, Heard, health_html, health_of, health_text
from opskit.widgets._served import Served, jupyter_server, link

_SECONDS = 60.0
_DRAW_SECONDS = 0.5
_NOTEBOOKS = {
    "backups": "list, take, download, hold, delete",
    "restore": "go back to a moment",
    "reports": "what was run, and how it ended",
    "clusters": "compare all clusters",
}


def start_panel(config: Path | str | None = None) -> "StartPanel":
    """A panel on all configured clusters; parameters and errors as `opskit.cluster`."""
    return StartPanel(load_settings(Path(config) if config else None))


class StartPanel(Board):
    """A card of its health for every cluster, those first that need somebody; displayed as the value of a cell.

    What the repository says is there at once. Servers are asked in threads: one that is away delays nobody, and has its
    card all the same.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        folder: Path | str = ".",
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.clusters = open_clusters(settings)
        self._questions = Questions(self.clusters)
        self.folder = Path(folder).absolute()
        self._patience = patience_seconds
        self._heard: dict[str, Heard] = {}
        self._asking = threading.Lock()
        self._drawn_at = 0.0
        self._served: Served | None = jupyter_server()
        super().__init__("Clusters", settings, _SECONDS)

    def _parts(self) -> list[ipywidgets.Widget]:
        self.cards = ipywidgets.HTML()
        self.cards.add_class("opskit-cards")
        return [self.cards]

    def _read(self) -> str:
        states = read_states(self.clusters)
        asks = self._asking.acquire(blocking=False)
        with self._lock:
            self._heard = {state.cluster: self._known(state, asks) for state in states}
            summary = self._counted()
        if asks:
            threading.Thread(target=self._ask, name="opskit panel's questions", daemon=True).start()
        return summary

    def _known(self, state: ClusterState, asks: bool) -> Heard:
        """What is read anew, with what the server said the last time."""
        before = self._heard.get(state.cluster)
        if before is None:
            return Heard(state=state, is_asked=asks)
        return replace(before, state=state.heard(before.state))

    def _ask(self) -> None:
        """Ask all servers, and show what each says when it does."""
        try:
            states = {name: heard.state for name, heard in self._heard.items()}
            for state in self._questions.ask(states, self._patience):
                states.pop(state.cluster)
                self._hear(Heard(state=state))
            for state in states.values():
                self._hear(Heard(state=state, is_silent=True))
        finally:
            self._asking.release()
            self._tell(self._counted())

    def _hear(self, heard: Heard) -> None:
        with self._lock:
            self._heard[heard.state.cluster] = heard
        if time.monotonic() - self._drawn_at > _DRAW_SECONDS:  # a hundred may answer at once
            self._tell(self._counted())

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        found = sorted(
            self._heard.values(), key=lambda h: (list(Health).index(health_of(h)), h.state.cluster)
        )
        shown = "".join(health_html(heard) for heard in found)
        empty = '<p class="opskit-empty">No cluster is configured. Add <code>[clusters.main]</code> to the file.</p>'
        self.cards.value = shown or empty

    def _lines(self) -> list[str]:
        return [health_text(heard) for heard in self._heard.values()]

    def _counted(self) -> str:
        """How many clusters are how, in one clause."""
        counts = dict.fromkeys(Health, 0)
        for heard in self._heard.values():
            counts[health_of(heard)] += 1
        told = [f"{health}: {count:,}" for health, count in counts.items() if count]
        total = f"{len(self._heard):,} cluster{'s'[: len(self._heard) != 1]}"
        return " · ".join([total, *told])

    def _links(self) -> str:
        """The notebooks that are there. They are no cluster's own, so no card has them."""
        found = []
        for name, what in _NOTEBOOKS.items():
            file = self.folder / f"{name}.ipynb"
            if file.exists():
                url = self._served.document(file) if self._served else None
                found.append(link(url, name, f"{what}: {file.name}"))
        return " · ".join(found)
