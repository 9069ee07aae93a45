"""The restored copies on this machine: started, asked, moved on, stopped; found again, whoever restored them."""

from collections.abc import Callable, Collection
from html import escape

import ipywidgets

from opskit.cluster import Cluster
from opskit.errors import OpskitError
from opskit.local_copy import LocalCopy
from opskit.model.operation import OperationKind
from opskit.operations.process import OperationHandle
from opskit.widgets._ask import Clicked
from opskit.widgets._background import Background
from opskit.widgets._goal import typed_target
from opskit.widgets._panel import button, row
from opskit.widgets._query import QueryBox

Follow = Callable[[OperationHandle, OperationKind], None]


class CopyCard:
    """One copy: how it stands, and what can be done with it.

    Parameters
    ----------
    follow
        Shows an operation that was started.
    tell
        Shows an error.
    """

    def __init__(
        self,
        cluster: Cluster,
        copy: LocalCopy,
        clicked: Clicked,
        follow: Follow,
        tell: Callable[[Exception], None],
    ) -> None:
        self.copy = copy
        self._cluster, self._follow, self._tell = cluster, follow, tell
        self._psql: tuple[int, str] | None = None
        self._stopping: Background[bool, bool] = Background(lambda _: copy.stop())
        self.message = ipywidgets.HTML()
        self.message.add_class("opskit-message")
        self.start = button("Start", "Run its server", clicked(self._start))
        self.stop = button("Stop", "Stop its server; its files stay", clicked(self._stop))
        self.target = ipywidgets.Text(
            description="Advance to",
            tooltip="A later time, LSN or restore point",
            placeholder="2026-11-22 14:10Z, 0/3000148 or a restore point",
        )
        self.advance = button(
            "Advance", "Recover up to there, and pause again", clicked(self._advance)
        )
        self.promote = button(
            "Promote", "End recovery here; it becomes a server of its own", clicked(self._promote)
        )
        self.query = QueryBox(copy, clicked)
        self._moving = row(self.target, self.advance, self.promote)
        self.widget = ipywidgets.VBox(
            [self.message, row(self.start, self.stop), self._moving, self.query.widget]
        )
        for name in ("opskit-card", "opskit-copy"):
            self.widget.add_class(name)

    def draw(self, busy: Collection[str]) -> None:
        """Show how it stands; `busy` are the directories of copies that an operation works on."""
        files = self.copy.files
        works = str(files.directory) in busy
        runs = files.is_running
        held = files.is_recovering
        self.message.value = self._words(works, runs, held)
        self.start.disabled = works or runs
        self.stop.disabled = works or not runs or self._stopping.is_busy
        asked = runs and not works
        self._moving.layout.display = "" if held and asked else "none"
        self.query.widget.layout.display = "" if asked else "none"
        self.query.draw()
        if self._stopping.error is not None:
            error, self._stopping.error = self._stopping.error, None
            self._tell(error)

    def close(self) -> None:
        """Take it from the screen; the copy stays as it is."""
        for widget in (self.widget, self.message, self.start, self.stop, self.query.widget):
            widget.close()

    def _words(self, works: bool, runs: bool, held: bool) -> str:
        files = self.copy.files
        at = f" at {files.target.removeprefix('time ')}" if files.target else ""
        if works:
            state = "an operation is working on it"
        elif runs:
            state = "running, paused there" if held else "running"
        else:
            state = "stopped; starting it recovers it" if held else "stopped"
        psql = f'<pre tabindex="0">{escape(self._psql_line())}</pre>' if runs and not works else ""
        return (
            f"<p><b>Copy of {escape(files.cluster + at)}</b>, backup {escape(files.backup)}: {escape(state)}</p>"
            f"<p><code>{escape(str(files.directory))}</code></p>{psql}"
        )

    def _psql_line(self) -> str:
        files = self.copy.files
        try:
            written_at = (files.data_directory / "postmaster.pid").stat().st_mtime_ns
            if self._psql is None or self._psql[0] != written_at:
                running = files.attached()
                self._psql = (written_at, "" if running is None else running.psql_line())
        except OSError:  # it is stopped at this moment
            return ""
        except OpskitError as error:
            return error.message
        return self._psql[1]

    def _start(self) -> None:
        handle = self._cluster.start_run_copy(self.copy.directory, detached=True)
        self._follow(handle, OperationKind.START)

    def _stop(self) -> None:
        self._stopping.ask(True)

    def _advance(self) -> None:
        target = typed_target(self.target.value.strip())
        handle = self._cluster.start_advance_copy(self.copy.directory, detached=True, **target)
        self.target.value = ""
        self._follow(handle, OperationKind.ADVANCE)

    def _promote(self) -> None:
        handle = self._cluster.start_advance_copy(self.copy.directory, promote=True, detached=True)
        self._follow(handle, OperationKind.ADVANCE)


class CopyList:
    """All copies of a cluster on this machine, the newest first."""

    def __init__(
        self,
        cluster: Cluster,
        clicked: Clicked,
        follow: Follow,
        tell: Callable[[Exception], None],
    ) -> None:
        self.cards: dict[str, CopyCard] = {}
        self.widget = ipywidgets.VBox()
        self._card: Callable[[LocalCopy], CopyCard] = lambda copy: CopyCard(
            cluster, copy, clicked, follow, tell
        )

    def show(self, copies: Collection[LocalCopy], busy: Collection[str]) -> None:
        """Show these copies as they stand now."""
        there = {str(copy.directory): copy for copy in copies}
        before = list(self.cards)
        for gone in [key for key in self.cards if key not in there]:
            self.cards.pop(gone).close()
        self.cards = {key: self.cards.get(key) or self._card(copy) for key, copy in there.items()}
        for card in self.cards.values():
            card.draw(busy)
        if before != list(self.cards):
            self.widget.children = [card.widget for card in self.cards.values()]
