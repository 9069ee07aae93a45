"""How an operation tells how far it has come, and learns that it shall end.

The port is declared here, by the operations that use it; whoever starts one hands in an adapter: the recorder, which
writes to the catalog, or `SilentMonitor`.
"""

from typing import Protocol

from opskit.model.operation import Progress


class Monitor(Protocol):
    """Where an operation reports to. Called often, from one thread: both methods are cheap and never block."""

    def report(self, progress: Progress) -> None:
        """Tell how far the operation has come; what was told before is forgotten."""

    def check(self) -> None:
        """Go on.

        Raises
        ------
        Cancelled
            Somebody asked for the end; leave nothing half-made behind and let it pass.
        """


class SilentMonitor:
    """A monitor that keeps nothing and never asks for the end."""

    def report(self, progress: Progress) -> None:
        """Forget it."""

    def check(self) -> None:
        """Go on."""
