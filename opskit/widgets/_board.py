"""What panels share that are not on one cluster: their head, the watch, and how they are shown."""

import threading
from collections.abc import Callable
from html import escape
from importlib.resources import files

import ipywidgets

from opskit.config import Settings
from opskit.errors import OpskitError, unexpected
from opskit.widgets._messages import trouble_html
from opskit.widgets._watch import Watch


class Board:
    """A panel on all that one configuration names; displayed as the value of a cell.

    `widget` is what is displayed; `close` ends it. A panel of its own adds `_parts`, `_read`, `_draw` and `_lines`.

    Parameters
    ----------
    every_seconds
        How long it stays as it is when nobody asks for more.
    """

    def __init__(self, title: str, settings: Settings, every_seconds: float) -> None:
        self.settings = settings
        self._title, self._every = title, every_seconds
        self._lock = threading.RLock()  # buttons come in other threads than the watch
        self._troubles: list[OpskitError] = []
        self._summary = ""
        self._head = ipywidgets.HTML()
        self._head.add_class("opskit-header")
        self.trouble = ipywidgets.HTML()
        self.again = ipywidgets.Button(description="Look again", tooltip="Read everything anew")
        self._watch = Watch(self._look)
        self.again.on_click(lambda _: self._watch.wake())
        style = "".join(
            files(__package__).joinpath(name).read_text(encoding="utf-8")
            for name in ("style.css", "board.css")
        )
        bar = ipywidgets.HBox([self._head, self.again])
        bar.add_class("opskit-topped")
        parts = [ipywidgets.HTML(f"<style>{style}</style>"), bar, self.trouble, *self._parts()]
        self.widget = ipywidgets.VBox(parts)
        self.widget.add_class("opskit-panel")
        self._look()
        self._watch.start()

    def _parts(self) -> list[ipywidgets.Widget]:
        """Make the panel's own parts; what is shown below the head."""
        raise NotImplementedError

    def _read(self) -> str:
        """Read anew; one clause on what there is."""
        raise NotImplementedError

    def _draw(self) -> None:
        """Show what was read."""
        raise NotImplementedError

    def _lines(self) -> list[str]:
        """What it shows, as text."""
        raise NotImplementedError

    def _links(self) -> str:
        """Where to go on, as HTML."""
        return ""

    def close(self) -> None:
        """Take it from the screen and stop looking."""
        self._watch.stop()
        self._watch.join(5)
        _close(self.widget)

    def __repr__(self) -> str:
        with self._lock:
            wrong = [f"error: {error.message}" for error in self._troubles]
            return "\n".join([f"{self._title}: {self._summary}", *wrong, *self._lines()])

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, object]:
        """The widget, and its text for where there is none."""
        shown: dict[str, object] = self.widget._repr_mimebundle_(**kwargs)
        return {**shown, "text/plain": repr(self)}

    def _clicked(self, act: Callable[[], None]) -> Callable[..., None]:
        """`act` as a callback. The kernel would swallow what it raises, so that is shown."""

        def call(*_: object) -> None:
            with self._lock:
                self._attempt(act)

        return call

    def _look(self) -> float:
        """What the watch does."""
        found: list[str] = []
        if self._attempt(lambda: found.append(self._read())):
            self._tell(found[0])
        self._show_head()
        return self._every

    def _tell(self, summary: str) -> None:
        """Show what is known now."""
        with self._lock:
            self._summary = summary
            if self._attempt(self._draw):
                self._show_head()

    def _attempt(self, act: Callable[[], None]) -> bool:
        """Whether it went well; if not, the panel says why."""
        try:
            act()
            self._troubles = []
        except Exception as error:
            self._troubles = [error if isinstance(error, OpskitError) else unexpected(error)]
        self.trouble.value = "".join(trouble_html(error) for error in self._troubles)
        return not self._troubles

    def _show_head(self) -> None:
        place = str(self.settings.file or "made in a program")
        links = self._links()
        told = f"<dt>Notebooks</dt><dd>{links}</dd>" if links else ""
        self._head.value = (
            f"<h2>{escape(self._title)}</h2><p>{escape(self._summary)}</p>"
            f"<dl><dt>Configuration</dt><dd><code>{escape(place)}</code></dd>{told}</dl>"
        )


def _close(widget: ipywidgets.Widget) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()
