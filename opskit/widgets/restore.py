"""The panel on restores: choose a moment, see how it is reached, restore, run the copy, ask it, move it on, stop it.

It plans and draws; what works are operations, which go on without it.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd

from opskit.cluster import Cluster, cluster
from opskit.errors import OpskitError
from opskit.local_copy import LocalCopy
from opskit.model.backup import BaseBackup
from opskit.model.operation import OperationKind, OperationStatus
from opskit.reports.recoverable import recoverable_table
from opskit.reports.tables import backups_table
from opskit.repository.uncollected import uncollected
from opskit.widgets._background import Background
from opskit.widgets._cards import OperationCard
from opskit.widgets._copies import CopyList
from opskit.widgets._goal import Goal, GoalPicker
from opskit.widgets._panel import Panel, button, row
from opskit.widgets._planning import Planning, Wish
from opskit.widgets._stack import told
from opskit.widgets._teach import Lesson, Teach, opened
from opskit.widgets.timeline import Timeline

_WAITING = '<p class="opskit-empty" role="status">Reading the backups and the WAL archive…</p>'
_UNKNOWN = (
    '<p class="opskit-empty">What can be restored could not be read; the reason is above.</p>'
)
_FOLLOWED = (OperationKind.RESTORE, OperationKind.START, OperationKind.ADVANCE)

Reach = tuple[pd.DataFrame, pd.DataFrame]


def restore_panel(
    name: str, config: Path | str | None = None, *, folder: Path | str = "."
) -> "RestorePanel":
    """A panel on restores of the configured cluster `name`; parameters and errors as `opskit.cluster`.

    Parameters
    ----------
    folder
        Where copies and runbooks go, unless another directory is typed; by default the notebook's folder.
    """
    return RestorePanel(cluster(name, config), folder, config)


class RestorePanel(Panel):
    """What of a cluster can be restored, and the copies of it on this machine; see `Panel`."""

    def __init__(
        self, source: Cluster, folder: Path | str = ".", config: Path | str | None = None
    ) -> None:
        self._backups: Sequence[BaseBackup] = ()
        self._found: Sequence[LocalCopy] = ()
        self._is_listed = False
        self._proposed = ""
        super().__init__(source, _FOLLOWED, folder, config)

    def _parts(self) -> list[ipywidgets.Widget]:
        redraw = self._clicked(lambda: None)
        self.timeline = Timeline(recoverable_table([]), backups_table([], []))
        self.timeline.observe(self._clicked(self._pointed), ["moment", "timeline"])
        self.timeline.layout.visibility = "hidden"  # it would say that nothing can be restored
        self.waiting = ipywidgets.HTML(_WAITING)
        self.waiting.add_class("opskit-waiting")
        place = ipywidgets.Box([self.timeline, self.waiting])
        place.add_class("opskit-place")
        self._reach: Background[float, Reach] = Background(self._find_reach, self._watch.wake)
        self.goal = GoalPicker(redraw)
        self.into = ipywidgets.Text(
            description="Into",
            tooltip="A directory that is empty or does not exist",
            continuous_update=False,
        )
        self.into.observe(redraw, "value")
        self.pause = ipywidgets.Checkbox(
            description="Pause there",
            tooltip="Stop recovery at the target, so that you can look and then move on",
            indent=False,
        )
        self.pause.observe(redraw, "value")
        self.planning = Planning(self.cluster, self._watch.wake)
        self.restore = button("Restore", "Restore as planned", self._clicked(self._restore))
        self.restore.button_style = "primary"
        self.copies = CopyList(self.cluster, self._clicked, self._follow, self._stack.tell)
        self.teach = Teach(self._clicked, self._lesson, self.folder)
        return [
            place,
            self.goal.widget,
            row(self.into, self.pause),
            self.planning.widget,
            row(self.restore),
            self._stack.widget,
            self.copies.widget,
            self.teach.widget,
        ]

    def _facts(self) -> list[str]:
        copies = [
            f"copy: {copy.directory}, {'running' if copy.files.is_running else 'stopped'}"
            for copy in self._found
        ]
        return [repr(self.timeline), *copies]

    def _pointed(self) -> None:
        moment = self.timeline.moment
        self.goal.moment = None if moment is None else (moment, self.timeline.timeline)

    def _restore(self) -> None:
        wish = self.planning.wished
        if wish is None:
            return
        handle = self.cluster.start_restore(
            wish.directory,
            pause=wish.pause and bool(wish.goal.target),
            detached=True,
            **wish.goal.arguments,
        )
        self._proposed, self.into.value = "", ""  # the next one goes elsewhere
        self._follow(handle, OperationKind.RESTORE)

    def _read(self) -> list[OpskitError]:
        state = [(operation.id, operation.status) for operation in self._operations]
        now = time.monotonic()
        if state == self._listed_for and self._is_listed_lately() and self._is_listed:
            return self._reach_trouble()
        self._is_listed = False
        try:
            self._backups = self.cluster.repository.backups(self.cluster.name)
            self._found = self.cluster.copies()
        except OpskitError as error:
            return [error]
        self._is_listed, self._listed_for, self._listed_at = True, state, time.monotonic()
        self._took = self._listed_at - now
        self._reach.ask(now)
        return self._reach_trouble()

    def _find_reach(self, _: float) -> Reach:
        backups = self._backups
        with uncollected():
            return self.cluster.recoverable(backups), backups_table(backups, [])

    def _reach_trouble(self) -> list[OpskitError]:
        error = self._reach.error
        return [] if error is None else [told(error)]

    def _draw(self) -> None:
        self._header.show(self._backups)
        self.goal.offer(self._backups)
        if self._reach.answer is not None:
            self.timeline.show(*self._reach.answer)
            self.timeline.layout.visibility, self.waiting.layout.display = None, "none"
        elif self.timeline.layout.visibility:
            self.waiting.value = _WAITING if self._reach.error is None else _UNKNOWN
        self._draw_plan()
        self.copies.show(self._found, self._busy())

    def _draw_plan(self) -> None:
        goal, wrong = None, None
        try:
            goal = self.goal.goal
        except OpskitError as error:
            wrong = error
        self._propose(goal)
        self.pause.disabled = goal is None or not goal.target
        self.planning.wish(None if goal is None else self._wish(goal))
        self.planning.draw(wrong)
        words = "" if goal is None else f" {self.cluster.name} to {goal.words}"
        self.restore.description = f"Restore{words}"
        self.restore.disabled = goal is None or self.planning.wished is None

    def _wish(self, goal: Goal) -> Wish:
        directory = self.folder / Path(self.into.value.strip() or self._proposed).expanduser()
        restores = sum(
            o.kind is OperationKind.RESTORE and o.status is OperationStatus.COMPLETE
            for o in self._operations
        )
        return Wish(goal, directory, bool(self.pause.value), restores)

    def _propose(self, goal: Goal | None) -> None:
        """Keep the directory one that does not exist, until somebody types another."""
        if goal is None or self.into.value not in ("", self._proposed):
            return
        name = f"{self.cluster.name}-{goal.stamp}"
        taken = {card.directory for card in self._running_restores()}
        place, number = self.folder / name, 1
        while place.exists() or str(place) in taken:
            number += 1
            place = self.folder / f"{name}-{number}"
        if str(place) != self._proposed:
            self._proposed = str(place)
            self.into.value = self._proposed

    def _running_restores(self) -> list[OperationCard]:
        return [c for c in self.cards if isinstance(c, OperationCard) and c.is_running]

    def _busy(self) -> set[str]:
        """The directories that operations work on."""
        return {card.directory for card in self._running_restores()}

    def _lesson(self) -> Lesson:
        goal = self.goal.goal or Goal("latest", {"latest": True})
        wish = self._wish(goal)
        arguments: dict[str, Any] = {**goal.arguments}
        at = arguments.get("at")
        if at is not None:
            arguments["at"] = at.isoformat()
        if wish.pause and goal.target:
            arguments["pause"] = True
        given = "".join(f", {key}={value!r}" for key, value in arguments.items())
        directory = wish.directory if self._proposed else self.folder / f"{self.cluster.name}-copy"
        text = opened(self.cluster.name, self._config)
        text += f"copy = cluster.restore({str(directory)!r}{given})\n"
        text += "with copy.started() as server:\n"
        text += '    print(server.query("SELECT now(), current_database()"))\n'
        named = {"cluster": self.cluster.name}
        if not goal.target:
            return Lesson("local_restore", {**named, "backup": goal.backup}, text)
        if at is not None:
            named["at"] = arguments["at"]
        known = "latest" in goal.target or (at is not None and self._is_newest(goal))
        return Lesson("point_in_time_restore" if known else "", named, text)

    def _is_newest(self, goal: Goal) -> bool:
        """Whether the goal lies on the newest timeline, which runbooks follow."""
        reach = self._reach.answer
        return reach is None or goal.target.get("timeline") == reach[0]["timeline"].max()
