"""The head of a panel: which cluster, which server, which repository."""

import threading
from collections.abc import Callable, Sequence
from html import escape

import ipywidgets

from opskit.cluster import Cluster
from opskit.errors import OpskitError, unexpected
from opskit.model.backup import BaseBackup
from opskit.postgres.facts import ClusterFacts
from opskit.reports.format import format_bytes

_NOT_ASKED = "the server has not been asked yet"


class Header:
    """Names the cluster, and tells what the server and the repository say.

    The server is asked in a thread, since one that is away keeps silent for long.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.widget = ipywidgets.HTML()
        self.widget.add_class("opskit-header")
        self._cluster = cluster
        self._server = _NOT_ASKED
        self._is_silent = False
        self._asking = threading.Lock()
        self._stored = ""

    def ask(self) -> None:
        """Ask the server in a thread, unless that is going on."""
        if self._asking.acquire(blocking=False):
            threading.Thread(target=self._ask, name="opskit panel's question", daemon=True).start()

    @property
    def is_silent(self) -> bool:
        """Whether the server did not answer when it was asked last."""
        return self._is_silent

    def show(self, backups: Sequence[BaseBackup]) -> None:
        """Tell what is in the repository."""
        stored = format_bytes(sum(backup.stored_bytes for backup in backups))
        count = "1 backup" if len(backups) == 1 else f"{len(backups):,} backups"
        self._stored = f"{count}, {stored}" if backups else "no backup yet"
        self._draw()

    def facts(self) -> dict[str, str]:
        """What it shows, as text."""
        return {
            "cluster": self._cluster.name,
            "server": self._server,
            "repository": f"{self._cluster.repository.url}: {self._stored}",
        }

    def _ask(self) -> None:
        try:
            self._server, self._is_silent = _told(self._cluster.facts), False
        except OpskitError as error:
            self._server, self._is_silent = error.message, True
        except Exception as error:
            self._server, self._is_silent = unexpected(error).message, True
        finally:
            self._asking.release()
        self._draw()

    def _draw(self) -> None:
        tone = ' class="opskit-failed"' if self._is_silent else ""
        self.widget.value = (
            f"<h2>{escape(self._cluster.name)}</h2>"
            f"<dl><dt>Server</dt><dd{tone}>{escape(self._server)}</dd>"
            f"<dt>Repository</dt><dd><code>{escape(self._cluster.repository.url)}</code>"
            f" <span>{escape(self._stored)}</span></dd></dl>"
        )


def _told(ask: Callable[[], ClusterFacts]) -> str:
    facts = ask()
    size = sum(database.database_bytes or 0 for database in facts.databases)
    standby = ", a standby" if facts.in_recovery else ""
    return f"PostgreSQL {facts.postgresql_version}{standby}, {format_bytes(size)}"
