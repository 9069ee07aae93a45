"""The choice of one backup: a list to open, which stays on what was chosen when new backups appear."""

from collections.abc import Callable, Sequence

import ipywidgets

from opskit.model.backup import BaseBackup
from opskit.widgets._listing import choices


class Picker:
    """Which backup the buttons mean. Until somebody chooses, and after they chose the newest, it is the newest."""

    def __init__(self, changed: Callable[[object], None], tooltip: str) -> None:
        self.widget = ipywidgets.Dropdown(description="Backup", tooltip=tooltip, disabled=True)
        self.widget.observe(changed, "value")

    @property
    def chosen(self) -> str | None:
        """The name of a complete backup; `None` when there is none."""
        name: str | None = self.widget.value
        return name

    def choose(self, name: str) -> None:
        """Choose one of the backups that are offered."""
        self.widget.value = name

    def offer(self, backups: Sequence[BaseBackup]) -> None:
        """Offer these, newest first; nothing happens when they are offered already."""
        offered = choices(backups)
        if offered == list(self.widget.options):
            return
        names = [name for _, name in offered]
        stays = self.widget.index not in (None, 0) and self.chosen in names
        chosen = self.chosen if stays else next(iter(names), None)
        with self.widget.hold_sync():  # never the new list with the old one's index
            self.widget.options = offered
            self.widget.value = chosen
            self.widget.disabled = not offered
