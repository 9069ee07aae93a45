"""The choice of what to restore: a moment of the timeline, a backup, an LSN, a restore point, or the archive's end."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ipywidgets

from opskit.model.backup import BaseBackup
from opskit.model.target import TargetArguments, parse_target
from opskit.widgets._picker import Picker

MOMENT, BACKUP, LSN, POINT, LATEST = "moment", "backup", "lsn", "restore_point", "latest"
_WAYS = {
    "A moment, chosen above": MOMENT,
    "A backup, as it was when it ended": BACKUP,
    "An LSN": LSN,
    "A restore point": POINT,
    "The end of the WAL archive": LATEST,
}
_TEXTS = {LSN: ("LSN", "0/3000148"), POINT: ("Name", "as pg_create_restore_point was told")}
_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Goal:
    """What to restore: `backup` as it was when it ended, or a target, from the newest backup that leads there."""

    backup: str
    target: TargetArguments

    @property
    def words(self) -> str:
        """``2026-11-22 14:05:00 UTC``, ``backup 20261122T020000Z``, ``lsn 0/3000148``."""
        wanted = parse_target(**self.target)
        return f"backup {self.backup}" if wanted is None else str(wanted).removeprefix("time ")

    @property
    def stamp(self) -> str:
        """The same for the name of a directory: ``20261122T140500Z``."""
        wanted = parse_target(**self.target)
        if wanted is None:
            return self.backup
        if isinstance(wanted.value, datetime):
            return f"{wanted.value.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        return _UNSAFE.sub("-", str(wanted.value or wanted.kind))

    @property
    def arguments(self) -> dict[str, Any]:
        """As `opskit.Cluster.restore` takes it."""
        return {**self.target} if self.target else {"backup": self.backup}


class GoalPicker:
    """Which kind of goal, and the field for it; `moment` is what was pointed at on the timeline."""

    def __init__(self, changed: Callable[[object], None]) -> None:
        self.moment: tuple[datetime, int | None] | None = None
        self.way = ipywidgets.Dropdown(
            options=list(_WAYS.items()),
            value=MOMENT,
            description="Restore",
            tooltip="What the copy is to be like",
        )
        self.text = ipywidgets.Text(
            description="LSN", tooltip="LSN", placeholder="", continuous_update=False
        )
        self.picker = Picker(changed, "The backup to restore")
        self.widget = ipywidgets.HBox([self.way])
        self.widget.add_class("opskit-actions")
        self.way.observe(self._show, "value")
        self.way.observe(changed, "value")
        self.text.observe(changed, "value")

    def offer(self, backups: Sequence[BaseBackup]) -> None:
        """Offer these backups, newest first."""
        self.picker.offer(backups)

    @property
    def goal(self) -> Goal | None:
        """What is chosen; `None` while nothing is.

        Raises
        ------
        InputError
            What was typed cannot be read.
        """
        way, typed = self.way.value, self.text.value.strip()
        if way == MOMENT:
            if self.moment is None:
                return None
            at, timeline = self.moment
            return Goal(
                "latest", {"at": at} if timeline is None else {"at": at, "timeline": timeline}
            )
        if way == BACKUP:
            return Goal(self.picker.chosen, {}) if self.picker.chosen else None
        if way == LATEST:
            return Goal("latest", {"latest": True})
        if not typed:
            return None
        target: TargetArguments = {"lsn": typed} if way == LSN else {"restore_point": typed}
        parse_target(**target)
        return Goal("latest", target)

    def _show(self, _: object) -> None:
        way = self.way.value
        fields: list[ipywidgets.Widget] = []
        if way == BACKUP:
            fields = [self.picker.widget]
        elif way in _TEXTS:
            self.text.description, self.text.placeholder = _TEXTS[way]
            self.text.tooltip = self.text.description
            self.text.value = ""
            fields = [self.text]
        self.widget.children = [self.way, *fields]


def typed_target(text: str) -> TargetArguments:
    """What somebody typed as a later target: an LSN, a time with its zone, or a restore point's name.

    Raises
    ------
    InputError
        It begins like a time and cannot be read as one, or is no name.
    """
    target: TargetArguments
    if _LSN.fullmatch(text):
        target = {"lsn": text}
    elif text[:1].isdigit():
        target = {"at": text}
    else:
        target = {"restore_point": text}
    parse_target(**target)
    return target
