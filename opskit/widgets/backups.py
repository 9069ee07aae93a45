"""The panel on a cluster's backups: see them, take one now, carry one home, hold one, make one whole, delete one.

It draws what the catalog and the repository say, and starts operations; it never works itself.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import ipywidgets

from opskit.cluster import Cluster, cluster
from opskit.errors import OpskitError
from opskit.model.backup import BackupKind, BaseBackup
from opskit.model.operation import Operation, OperationKind
from opskit.model.retention import Hold
from opskit.reports.format import format_bytes, format_time
from opskit.reports.listed import chain_words, running_parents
from opskit.widgets._ask import Ask, Question
from opskit.widgets._deeds import Deeds
from opskit.widgets._download_link import DownloadLink
from opskit.widgets._listing import SHOWN, lines, listing_frame, table_view
from opskit.widgets._panel import Panel, button, row
from opskit.widgets._teach import Lesson, Teach, opened
from opskit.widgets.table import Table

_NEWEST = 200  # are shown before the others are read
_FOLLOWED = (
    OperationKind.BACKUP,
    OperationKind.DOWNLOAD,
    OperationKind.DELETE,
    OperationKind.EXPIRE,
    OperationKind.CONSOLIDATE,
)


def backups_panel(
    name: str, config: Path | str | None = None, *, folder: Path | str = "."
) -> "BackupsPanel":
    """A panel on the backups of the configured cluster `name`; parameters and errors as `opskit.cluster`.

    Parameters
    ----------
    folder
        Where downloads and runbooks go; by default the notebook's folder.
    """
    return BackupsPanel(cluster(name, config), folder, config)


class BackupsPanel(Panel):
    """A cluster's backups, with *Back up now*, *Download*, *Hold*, *Delete* and *Cancel*; see `Panel`."""

    def __init__(
        self, source: Cluster, folder: Path | str = ".", config: Path | str | None = None
    ) -> None:
        self._backups: Sequence[BaseBackup] = ()
        self._holds: dict[str, Hold] = {}
        self._parents: dict[str, str | None] = {}
        self._drawn_for: object = None
        self._newest: str | None = None
        super().__init__(source, _FOLLOWED, folder, config)

    def _parts(self) -> list[ipywidgets.Widget]:
        self.note = ipywidgets.Text(
            description="Note",
            placeholder="what it is for, if you like",
            tooltip="A note that is kept with the backup",
        )
        self.back_up = button("Back up now", "Take a backup now", self._clicked(self._back_up))
        self.back_up.button_style = "primary"
        self.table = Table(
            listing_frame([], [], {}),
            key="name",
            label="Backups, newest first",
            empty="There is no backup yet. Back up now takes the first.",
        )
        self.table.widget.layout.display = "none"  # it would say that there is no backup
        self.table.on_choose(lambda: self._clicked(lambda: None)(None))
        self.selected = ipywidgets.HTML("<p>Reading the backups…</p>")
        self.link = DownloadLink(self.cluster.name)
        self.download = button(
            "Save to folder", f"Write it to {self.folder} as one archive", self._clicked(self._save)
        )
        self.hold = button("Hold", "Keep it, whatever the policy says", self._clicked(self._hold))
        self.whole = button(
            "Make whole…",
            "See how it becomes a full backup",
            self._clicked(lambda: self._plan(OperationKind.CONSOLIDATE)),
        )
        self.delete = button(
            "Delete…", "See what would go", self._clicked(lambda: self._plan(OperationKind.DELETE))
        )
        self.ask = Ask(self._clicked)
        self._deeds = Deeds(self.cluster, self._watch.wake)
        self.teach = Teach(self._clicked, self._lesson, self.folder)
        return [
            row(self.note, self.back_up),
            self._stack.widget,
            self.table.widget,
            row(self.selected, self.link, self.download, self.hold, self.whole, self.delete),
            self.ask.widget,
            self.teach.widget,
        ]

    @property
    def chosen(self) -> BaseBackup | None:
        """The complete backup that the buttons mean. Until somebody chooses another one, it is the newest."""
        return next((b for b in self._backups if b.name in self.table.chosen), None)

    def choose(self, name: str) -> None:
        """Choose a backup, as a click on its row does."""
        self.table.chosen = (name,)

    def _facts(self) -> list[str]:
        listed = lines(self._backups, self._attempts(), datetime.now(UTC), self._parents)
        older = len(self._backups) - SHOWN
        more = [f"and {older:,} older ones"] if older > 0 else []
        return [table_view(listed).text if listed else "no backups", *more]

    def _back_up(self) -> None:
        if self._stack.runs(OperationKind.BACKUP):  # a second click, before the first was drawn
            return
        handle = self.cluster.start_backup(note=self.note.value, detached=True)
        self.note.value = ""
        self._follow(handle, OperationKind.BACKUP)

    def _save(self) -> None:
        backup = self.chosen
        if backup is None or self._stack.runs(OperationKind.DOWNLOAD, backup.name):
            return
        handle = self.cluster.start_download(backup.name, self.folder, detached=True)
        self._follow(handle, OperationKind.DOWNLOAD)

    def _hold(self) -> None:
        backup = self.chosen
        if backup is None:
            return
        if self._held(backup.name) is not None:
            self.cluster.release(backup.name)
            self._listed_at = 0.0
            return
        name = backup.name

        def place(reason: str) -> None:
            self.cluster.hold(name, reason)
            self._listed_at = 0.0

        self.ask.ask(
            Question(
                html=f"<p><b>Hold {escape(name)}</b></p><p>No policy removes it, and nobody can delete it, until it is"
                " released.</p>",
                button=f"Hold {name} of {self.cluster.name}",
                act=place,
                field="Reason",
            )
        )

    def _plan(self, kind: OperationKind) -> None:
        if self.chosen is not None:
            self.ask.close()
            self._deeds.plan(kind, self.chosen.name)

    def _carry_out(self, kind: OperationKind, name: str) -> None:
        start = (
            self.cluster.start_delete
            if kind is OperationKind.DELETE
            else self.cluster.start_consolidate
        )
        self._follow(start(name, detached=True), kind)

    def _held(self, name: str) -> Hold | None:
        hold = self._holds.get(name)
        return hold if hold is not None and hold.holds(datetime.now(UTC)) else None

    def _read(self) -> list[OpskitError]:
        name = self.cluster.name
        state = [
            (operation.id, operation.status, operation.backup) for operation in self._operations
        ]
        now = time.monotonic()
        if state == self._listed_for and self._is_listed_lately() and not self._troubles:
            return []
        try:
            if self._listed_for is None:
                self._show_newest(self.cluster.repository.backups(name, _NEWEST))
            self._backups = self.cluster.repository.backups(name)
            self._holds = {hold.backup: hold for hold in self.cluster.repository.holds(name).all()}
            self._parents = running_parents(self.cluster.repository, self._attempts())
            self._listed_for, self._listed_at = state, time.monotonic()
            self._took = self._listed_at - now
        except OpskitError as error:
            return [error]
        return []

    def _show_newest(self, newest: Sequence[BaseBackup]) -> None:
        """Where there may be more, let these be seen before the others are read."""
        if len(newest) < _NEWEST:
            return
        with self._lock:
            self.table.show(listing_frame(newest, self._attempts(), {}))
            self.table.widget.layout.display = ""
            self.selected.value = "<p>Reading the older backups…</p>"
        self._watch.shows()

    def _draw(self) -> None:
        if self._listed_for is None:
            return
        self._header.show(self._backups)
        self._list()
        backup = self.chosen
        self.back_up.disabled = self._stack.runs(OperationKind.BACKUP)
        for control in (self.download, self.hold, self.delete):
            control.disabled = backup is None
        self.link.backup = "" if backup is None else backup.name
        self.link.layout.display = "none" if backup is None else ""
        held = None if backup is None else self._held(backup.name)
        self.selected.value = _told(backup, held, self._backups)
        self.hold.description = "Hold" if held is None else "Release"
        if backup is not None:
            self.download.disabled = self._stack.runs(OperationKind.DOWNLOAD, backup.name)
            self.delete.disabled = self._stack.runs(OperationKind.DELETE, backup.name)
            self.whole.disabled = self._stack.runs(OperationKind.CONSOLIDATE, backup.name)
        can_be = backup is not None and backup.kind is BackupKind.INCREMENTAL
        self.whole.layout.display = "" if can_be else "none"
        self._draw_plan()

    def _draw_plan(self) -> None:
        if self._deeds.is_busy:
            self.delete.disabled = self.whole.disabled = True
        answer = self._deeds.taken()
        if isinstance(answer, Exception):
            self._stack.tell(answer)
        elif answer is not None:
            self.ask.ask(answer.question(self._carry_out))

    def _list(self) -> None:
        """Show the backups, when there is something new to them; the newest is chosen while it was before."""
        drawn_for = (self._listed_at, self._listed_for)
        if drawn_for == self._drawn_for:
            return
        self._drawn_for = drawn_for
        chosen = self.table.chosen
        self.table.show(listing_frame(self._backups, self._attempts(), self._holds, self._parents))
        self.table.widget.layout.display = ""
        newest = self._backups[0].name if self._backups else None
        if newest is not None and chosen in ((), (self._newest,)):
            self.table.chosen = (newest,)
        self._newest = newest

    def _attempts(self) -> list[Operation]:
        return [o for o in self._operations if o.kind is OperationKind.BACKUP]

    def _lesson(self) -> Lesson:
        note = self.note.value
        text = opened(self.cluster.name, self._config)
        text += f"backup = cluster.create_backup(note={note!r})\n"
        if self.chosen is not None:
            name = self.chosen.name
            text += f"cluster.download({name!r}, {str(self.folder)!r})\n"
            text += f"cluster.plan_delete({name!r})\n"
        return Lesson(
            "scheduled_backup",
            {"cluster": self.cluster.name, "note": note},
            text + "cluster.backups()\n",
        )


def _told(backup: BaseBackup | None, held: Hold | None, backups: Sequence[BaseBackup]) -> str:
    if backup is None:
        return "<p>No backup is selected.</p>"
    lines = [
        f"<b>{escape(backup.name)}</b> of {format_time(backup.started_at)},"
        f" {format_bytes(backup.cluster_bytes)} stored as {format_bytes(backup.stored_bytes)}",
        *(escape(line) for line in chain_words(backup, backups)),
    ]
    if held is not None:
        lines.append(escape(held.words))
    return f"<p>{'<br>'.join(lines)}</p>"
