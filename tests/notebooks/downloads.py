"""What tests of downloads share: a repository behind a Jupyter server, and what was recorded of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import load_settings
from opskit.model.operation import Operation
from opskit.repository import Repository
from opskit.store import Store, open_store
from tests.notebooks.panels import wait_until
from tests.notebooks.process import Way, by_address, by_socket, encrypted
from tests.notebooks.serving import Jupyter

LATEST = "opskit/download/main/latest"
RESUME_SECONDS = 1.0
WAYS: dict[str, Callable[[Path], Way]] = {
    "address": lambda _: by_address(),
    "encrypted": encrypted,
    "IPv6": lambda _: by_address("::1"),
    "socket": lambda directory: by_socket(directory / "socket"),
}
"""By name, the ways that lead to the server ``jupyter``; each is given a directory of its own."""


def on_ways(*quick: str) -> pytest.MarkDecorator:
    """A test on every way: on those named in each run, on the others in the sweep."""
    every = [pytest.param(way, marks=[] if way in quick else pytest.mark.sweep) for way in WAYS]
    return pytest.mark.parametrize("jupyter", every, indirect=True)


class Place:
    """A repository that the server's configuration names."""

    def __init__(self, jupyter: Jupyter, directory: Path) -> None:
        self._jupyter, self._directory = jupyter, directory
        self.configure()
        settings = load_settings(jupyter.configuration)
        self.main = Cluster("main", settings)
        self.store: Store = open_store(settings.repository_url)
        self.repository = Repository(self.store)

    def configure(self, more: str = "") -> None:
        """Write the configuration; `more` is appended."""
        self._jupyter.configuration.write_text(
            f"[repository]\nurl = {json.dumps((self._directory / 'repository').as_uri())}\n"
            f'[catalog]\nurl = "sqlite:///{self._directory}/opskit.db"\n'
            f'[clusters.main]\nconninfo = "host={self._directory}"\n{more}'
        )

    def operations(self) -> list[Operation]:
        """What was recorded, the last one first."""
        return self.main.catalog.operations()

    def ended(self) -> Operation:
        """The only operation, when it has ended."""
        [operation] = self.all_ended(1)
        return operation

    def all_ended(self, count: int) -> list[Operation]:
        """So many operations, when they have ended."""
        wait_until(
            lambda: [o.ended_at is None for o in self.operations()] == [False] * count,
            f"{count} operations have ended",
        )
        return self.operations()

    def whole(self) -> bytes:
        """The archive of the newest backup, without WAL."""
        backup = self.main.backup()
        return b"".join(bytes(piece) for piece in self.repository.archive(backup).read())
