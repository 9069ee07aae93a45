"""Cards: one for each operation that a panel watches, and one for each error that a button met."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets

from opskit.errors import Cancelled, ErrorKind, OpskitError, StoreError
from opskit.model.backup import BaseBackup
from opskit.model.operation import Operation, OperationKind, OperationStatus
from opskit.operations.process import OperationHandle
from opskit.widgets._messages import (
    as_left,
    ended_heading,
    ended_html,
    error_html,
    operation_details,
    progress_html,
)
from opskit.widgets._pace import Pace

_TONES = ("opskit-good", "opskit-bad", "opskit-calm")


class Card:
    """A message with one button."""

    is_running = False

    def __init__(self, html: str, tone: str, button: str, tooltip: str) -> None:
        self.message = ipywidgets.HTML(html)
        self.button = ipywidgets.Button(description=button, tooltip=tooltip)
        self.widget = ipywidgets.HBox([self.message, self.button])
        self.widget.add_class("opskit-card")
        self.message.add_class("opskit-message")
        self.tone(tone)

    def press(self) -> bool:
        """What the button does; whether the card is to be taken away now."""
        return True

    def look(self) -> bool:
        """Bring the card up to date; whether what it tells of has ended since the last look."""
        return False

    def tone(self, tone: str) -> None:
        """Good news, bad news or neither."""
        for other in _TONES:
            self.widget.remove_class(other)
        self.widget.add_class(tone)

    def close(self) -> None:
        """Take it from the screen."""
        for widget in (self.widget, self.message, self.button):
            widget.close()


class ErrorCard(Card):
    """What a button met that did not work."""

    def __init__(self, heading: str, error: OpskitError, trace: str = "") -> None:
        super().__init__(
            error_html(heading, error, {}, trace), "opskit-bad", "Dismiss", "Take this message away"
        )


class OperationCard(Card):
    """One operation, wherever it runs: its progress with a way to cancel it, and in the end how it ended.

    Parameters
    ----------
    find
        Reads a complete backup by its name.
    """

    def __init__(
        self, handle: OperationHandle, kind: OperationKind, find: Callable[[str], BaseBackup]
    ) -> None:
        super().__init__("", "opskit-calm", "Cancel", f"End this {kind}; nothing half-made is kept")
        self.handle = handle
        self.kind = kind
        self.is_running = True
        self.operation: Operation | None = None
        self._find = find
        self._pace = Pace()
        self._is_cancelling = False

    @property
    def backup(self) -> str | None:
        """The backup that the operation is about, once that is known."""
        return self.operation.backup if self.operation is not None else None

    @property
    def directory(self) -> str:
        """The directory of the copy that it works on; empty where it works on none."""
        parameters = self.operation.parameters if self.operation is not None else {}
        return parameters.get("directory", "")

    def press(self) -> bool:
        """Cancel what runs; what has ended is to be taken away."""
        if not self.is_running:
            return True
        self._is_cancelling = True
        self.button.disabled = True
        self.button.description = "Cancelling…"
        self.handle.cancel()
        return False

    def look(self) -> bool:
        """See how the operation stands, and show it.

        Raises
        ------
        StoreError
            The catalog cannot be read.
        """
        if not self.is_running:
            return False
        try:
            operation = self.operation = self.handle.wait(timeout=0)
        except OpskitError as error:
            if isinstance(error, StoreError) and error.kind is ErrorKind.CATALOG_FAILED:
                raise
            self._show_error(error)
            return True
        if operation.status is not OperationStatus.COMPLETE:
            self._pace.saw(operation.progress, time.monotonic())
            self.message.value = progress_html(
                operation, self._pace, datetime.now(UTC), self._is_cancelling
            )
            return False
        self._end(ended_html(operation, self._backup(operation), _size(operation)), "opskit-good")
        return True

    def _show_error(self, error: OpskitError) -> None:
        operation = self.operation = self.handle.refresh()
        tone = "opskit-calm" if isinstance(error, Cancelled) else "opskit-bad"
        heading = ended_heading(operation, error)
        told = as_left(operation, error)
        self._end(error_html(heading, told, operation_details(operation)), tone)

    def _end(self, html: str, tone: str) -> None:
        self.is_running = False
        self.message.value = html
        self.tone(tone)
        self.button.description, self.button.tooltip = "Dismiss", "Take this message away"
        self.button.disabled = False

    def _backup(self, operation: Operation) -> BaseBackup | None:
        try:
            return self._find(operation.backup) if operation.backup else None
        except OpskitError:  # it says less then; the operation is complete all the same
            return None


def _size(operation: Operation) -> int | None:
    path = (operation.result or {}).get("path")
    try:
        return Path(str(path)).stat().st_size if path else None
    except OSError:  # it was written on another host, or has been moved since
        return None
