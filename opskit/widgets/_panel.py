"""What all panels on a cluster share: their head, the cards of what runs, the watch, and how errors are shown."""

import threading
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import ipywidgets

from opskit.cluster import Cluster
from opskit.errors import OpskitError
from opskit.model.operation import Operation, OperationKind, OperationStatus
from opskit.operations.process import OperationHandle
from opskit.widgets._cards import Card, OperationCard
from opskit.widgets._header import Header
from opskit.widgets._messages import trouble_html
from opskit.widgets._stack import CardStack, told
from opskit.widgets._watch import Watch

_PATIENCE_SECONDS = (
    1.0  # thousands of backups take longer to read: the panel is there before they are
)
_BUSY_SECONDS = 0.5
_IDLE_SECONDS = 2.0
_ASK_SECONDS = 30.0
_RECENT = 200
_LIST_SECONDS = 30.0  # what other hosts and hands did to the repository shows after so long
_LIST_SHARE = 30.0  # times as long as it took to read them is nothing read again


class Panel:
    """A panel on one cluster; displayed as the value of a cell.

    Any number of panels, in any kernels, show the same operations. `widget` is what is displayed; `close` ends it.
    A panel of its own adds `_parts`, and what is between `_read` and `_draw`.

    Parameters
    ----------
    kinds
        The operations that it follows, whoever started them.
    folder
        Where what it writes goes.
    config
        The configuration file, as whoever made it named it.
    """

    def __init__(
        self,
        source: Cluster,
        kinds: Sequence[OperationKind],
        folder: Path | str = ".",
        config: Path | str | None = None,
    ) -> None:
        self.cluster = source
        self.folder = Path(folder).absolute()
        self._config = str(config) if config is not None else None
        self._listed_for: object = None
        self._listed_at, self._took = 0.0, 0.0
        self._kinds = tuple(kinds)
        self._lock = threading.RLock()  # buttons come in other threads than the watch
        self._operations: Sequence[Operation] = ()
        self._asked_at: float | None = None
        self._troubles: list[OpskitError] = []
        self._header = Header(source)
        self._stack = CardStack(self._clicked)
        self.trouble = ipywidgets.HTML()
        self._watch = Watch(self._look)
        style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
        self.widget = ipywidgets.VBox(
            [
                ipywidgets.HTML(f"<style>{style}</style>"),
                self._header.widget,
                self.trouble,
                *self._parts(),
            ]
        )
        self.widget.add_class("opskit-panel")
        self._watch.start(_PATIENCE_SECONDS)

    def _parts(self) -> list[ipywidgets.Widget]:
        """Make the panel's own parts; what is shown below the head."""
        raise NotImplementedError

    def _read(self) -> list[OpskitError]:
        """Read anew what may have changed. What cannot be read stays as it was, and why is returned."""
        raise NotImplementedError

    def _draw(self) -> None:
        """Show what was read, and what can be done now."""
        raise NotImplementedError

    def _facts(self) -> list[str]:
        """Further lines of its text."""
        return []

    @property
    def cards(self) -> list[Card]:
        """The operations and errors that are shown, the newest first."""
        return list(self._stack.cards.values())

    @property
    def is_ready(self) -> bool:
        """Whether it shows what there is; until then it says that it reads."""
        return self._watch.has_looked

    def close(self) -> None:
        """Take it from the screen and stop looking; operations go on."""
        self._watch.stop()
        self._watch.join(5)
        _close(self.widget)

    def __repr__(self) -> str:
        with self._lock:
            lines = [f"{name}: {fact}" for name, fact in self._header.facts().items()]
            lines += [
                f"running: {card.kind} {card.backup or ''}".rstrip()
                for card in self.cards
                if isinstance(card, OperationCard) and card.is_running
            ]
            lines += [f"error: {error.message}" for error in self._troubles]
            lines += self._facts() if self.is_ready else ["still reading what there is"]
        return "\n".join(lines)

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, object]:
        """The widget, and its text for where there is none."""
        shown: dict[str, object] = self.widget._repr_mimebundle_(**kwargs)
        return {**shown, "text/plain": repr(self)}

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
                    self._stack.tell(error)
            self._watch.wake()

        return call

    def _look(self) -> float:
        """What the watch does: read, follow what runs, draw."""
        try:
            troubles = [*self._read_operations(), *self._read()]
            with self._lock:
                self._follow_running()
                if self._stack.look() or self._should_ask():
                    self._asked_at = time.monotonic()
                    self._header.ask()
                self._draw()
        except Exception as error:
            troubles = [told(error)]
        self._troubles = troubles
        self.trouble.value = "".join(trouble_html(error) for error in troubles)
        return _BUSY_SECONDS if self._stack.is_busy else _IDLE_SECONDS

    def _read_operations(self) -> list[OpskitError]:
        try:
            self._operations = self.cluster.catalog.operations(
                cluster=self.cluster.name, limit=_RECENT
            )
        except OpskitError as error:
            return [error]
        return []

    def _follow_running(self) -> None:
        """Make a card for every operation that runs and has none, whoever started it."""
        for operation in reversed(self._operations):
            is_running = operation.status is OperationStatus.RUNNING
            if is_running and operation.kind in self._kinds and not self._stack.has(operation.id):
                self._follow(self.cluster.operation(operation.id), operation.kind)

    def _is_listed_lately(self) -> bool:
        """Whether the backups need not be read again, if no operation began or ended."""
        passed = time.monotonic() - self._listed_at
        return passed < max(_LIST_SECONDS, _LIST_SHARE * self._took)

    def _should_ask(self) -> bool:
        if self._asked_at is None:
            return True
        return self._header.is_silent and time.monotonic() - self._asked_at > _ASK_SECONDS


def button(text: str, tooltip: str, clicked: Callable[[object], None]) -> ipywidgets.Button:
    """A button as panels have them, as wide as its text."""
    made = ipywidgets.Button(description=text, tooltip=tooltip)
    made.on_click(clicked)
    return made


def row(*widgets: ipywidgets.Widget) -> ipywidgets.Widget:
    """Controls beside one another; the lines of a panel."""
    made = ipywidgets.HBox(widgets)
    made.add_class("opskit-actions")
    return made


def _close(widget: ipywidgets.Widget) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()
