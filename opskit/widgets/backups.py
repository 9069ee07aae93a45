"""The panel on a cluster's backups: see them, take one now, download one.

It draws what the catalog and the repository say, and starts operations; it never works itself.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import ipywidgets

from opskit.cluster import Cluster, cluster
from opskit.errors import OpskitError, unexpected
from opskit.model.backup import BaseBackup
from opskit.model.operation import Operation, OperationKind, OperationStatus
from opskit.operations.process import OperationHandle
from opskit.widgets._cards import Card, OperationCard
from opskit.widgets._header import Header
from opskit.widgets._listing import SHOWN, Line, lines, table_html, table_view
from opskit.widgets._messages import trouble_html
from opskit.widgets._picker import Picker
from opskit.widgets._stack import CardStack
from opskit.widgets._watch import Watch

_BUSY_SECONDS = 0.5
_IDLE_SECONDS = 2.0
_LIST_SECONDS = 30.0  # what other hosts and hands did to the repository shows after so long
_ASK_SECONDS = 30.0
_RECENT = 200


def backups_panel(
    name: str, config: Path | str | None = None, *, folder: Path | str = "."
) -> "BackupsPanel":
    """A panel on the backups of the configured cluster `name`; parameters and errors as `opskit.cluster`.

    Parameters
    ----------
    folder
        Where downloads go; by default the notebook's folder.
    """
    return BackupsPanel(cluster(name, config), folder)


class BackupsPanel:
    """A cluster's backups, with *Back up now*, *Download* and *Cancel*; displayed as the value of a cell.

    Any number of panels, in any kernels, show the same operations. `widget` is what is displayed; `close` ends it.
    """

    def __init__(self, source: Cluster, folder: Path | str = ".") -> None:
        self.cluster = source
        self.folder = Path(folder).absolute()
        self._lock = threading.RLock()  # buttons come in other threads than the watch
        self._backups: Sequence[BaseBackup] = ()
        self._operations: Sequence[Operation] = ()
        self._listed_for: object = None
        self._listed_at = 0.0
        self._asked_at: float | None = None
        self._troubles: list[OpskitError] = []
        self._make_parts()
        self._watch = Watch(self._look)
        self._look()
        self._watch.start()

    def _make_parts(self) -> None:
        self._header = Header(self.cluster)
        self.note = ipywidgets.Text(
            description="Note",
            placeholder="what it is for, if you like",
            tooltip="A note that is kept with the backup",
        )
        self.back_up = _button("Back up now", "Take a backup now", self._clicked(self._back_up))
        self.back_up.button_style = "primary"
        self._stack = CardStack(self._clicked)
        self.table = ipywidgets.HTML()
        scroll = ipywidgets.Box([self.table], tabbable=True)  # for the arrow keys
        scroll.add_class("opskit-scroll")
        self.picker = Picker(self._clicked(self._draw))
        self.download = _button(
            "Download", f"Write it to {self.folder} as one archive", self._clicked(self._download)
        )
        self.trouble = ipywidgets.HTML()
        style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
        self.widget = ipywidgets.VBox(
            [
                ipywidgets.HTML(f"<style>{style}</style>"),
                self._header.widget,
                self.trouble,
                _row(self.note, self.back_up),
                self._stack.widget,
                scroll,
                _row(self.picker.widget, self.download),
            ]
        )
        self.widget.add_class("opskit-panel")

    @property
    def cards(self) -> list[Card]:
        """The operations and errors that are shown, the newest first."""
        return list(self._stack.cards.values())

    def close(self) -> None:
        """Take it from the screen and stop looking; operations go on."""
        self._watch.stop()
        self._watch.join(5)
        _close(self.widget)

    def __repr__(self) -> str:
        with self._lock:
            told = [f"{name}: {fact}" for name, fact in self._header.facts().items()]
            told += [
                f"running: {card.kind} {card.backup or ''}".rstrip()
                for card in self.cards
                if isinstance(card, OperationCard) and card.is_running
            ]
            told += [f"error: {error.message}" for error in self._troubles]
            listed = self._lines()
        return "\n".join([*told, table_view(listed).text if listed else "no backups"])

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, object]:
        """The widget, and its text for where there is none."""
        shown: dict[str, object] = self.widget._repr_mimebundle_(**kwargs)
        return {**shown, "text/plain": repr(self)}

    def _back_up(self) -> None:
        if self._stack.runs(OperationKind.BACKUP):  # a second click, before the first was drawn
            return
        handle = self.cluster.start_backup(note=self.note.value, detached=True)
        self.note.value = ""
        self._follow(handle, OperationKind.BACKUP)

    def _download(self) -> None:
        name = self.picker.chosen
        if name is None or self._stack.runs(OperationKind.DOWNLOAD, name):
            return
        handle = self.cluster.start_download(name, self.folder, detached=True)
        self._follow(handle, OperationKind.DOWNLOAD)

    def _follow(self, handle: OperationHandle, kind: OperationKind) -> None:
        card = OperationCard(handle, kind, self.cluster.backup)
        self._stack.add(handle.id, card)
        card.look()

    def _clicked(self, act: Callable[[], None]) -> Callable[[object], None]:
        """`act` as a callback. The kernel would swallow what it raises, so that is shown."""

        def call(_: object) -> None:
            with self._lock:
                try:
                    act()
                    self._draw()
                except Exception as error:
                    self._stack.tell(_told(error))
            self._watch.wake()

        return call

    def _look(self) -> float:
        """What the watch does: read, follow what runs, draw."""
        try:
            troubles = self._read()
            with self._lock:
                self._follow_running()
                if self._stack.look() or self._should_ask():
                    self._asked_at = time.monotonic()
                    self._header.ask()
                self._draw()
        except Exception as error:
            troubles = [_told(error)]
        self._troubles = troubles
        self.trouble.value = "".join(trouble_html(error) for error in troubles)
        return _BUSY_SECONDS if self._stack.is_busy else _IDLE_SECONDS

    def _read(self) -> list[OpskitError]:
        """Read anew what may have changed. What cannot be read stays as it was, and why is returned."""
        troubles: list[OpskitError] = []
        name = self.cluster.name
        try:
            self._operations = self.cluster.catalog.operations(cluster=name, limit=_RECENT)
        except OpskitError as error:
            troubles.append(error)
        state = [(operation.id, operation.status) for operation in self._operations]
        now = time.monotonic()
        if state != self._listed_for or now - self._listed_at > _LIST_SECONDS or self._troubles:
            try:
                self._backups = self.cluster.repository.backups(name)
                self._listed_for, self._listed_at = state, now
            except OpskitError as error:
                troubles.append(error)
        return troubles

    def _follow_running(self) -> None:
        """Make a card for every operation that runs and has none, whoever started it."""
        for operation in reversed(self._operations):
            is_running = operation.status is OperationStatus.RUNNING
            if is_running and operation.id not in self._stack.cards:
                self._follow(self.cluster.operation(operation.id), operation.kind)

    def _should_ask(self) -> bool:
        if self._asked_at is None:
            return True
        return self._header.is_silent and time.monotonic() - self._asked_at > _ASK_SECONDS

    def _lines(self) -> list[Line]:
        backups = [o for o in self._operations if o.kind is OperationKind.BACKUP]
        return lines(self._backups, backups, datetime.now(UTC))

    def _draw(self) -> None:
        self._header.show(self._backups)
        self.picker.offer(self._backups)
        chosen = self.picker.chosen
        self.back_up.disabled = self._stack.runs(OperationKind.BACKUP)
        self.download.disabled = chosen is None or self._stack.runs(OperationKind.DOWNLOAD, chosen)
        self.table.value = table_html(self._lines(), chosen, len(self._backups) - SHOWN)


def _button(text: str, tooltip: str, clicked: Callable[[object], None]) -> ipywidgets.Button:
    button = ipywidgets.Button(description=text, tooltip=tooltip)
    button.on_click(clicked)
    return button


def _row(*widgets: ipywidgets.Widget) -> ipywidgets.Widget:
    row = ipywidgets.HBox(widgets)
    row.add_class("opskit-actions")
    return row


def _told(error: Exception) -> OpskitError:
    return error if isinstance(error, OpskitError) else unexpected(error)


def _close(widget: ipywidgets.Widget) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()
