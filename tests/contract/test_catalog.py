"""What every catalog keeps, here on SQLite, in ``tests/server`` on PostgreSQL; and what SQLite has of its own."""

import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from opskit.catalog import Catalog
from opskit.catalog._identity import process_identity, process_is_gone
from opskit.model.operation import Progress
from tests.contract.catalogs import CatalogSuite, begin


class TestOnSqlite(CatalogSuite):
    """The catalog in a file."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """A file that does not exist yet, of an odd name."""
        return f"sqlite:///{tmp_path}/ops kit%41.db"

    def test_the_file_is_for_its_owner_only(self, url: str, tmp_path: Path) -> None:
        """Neither the database nor the files beside it can be read by others, whatever the umask."""
        before = os.umask(0)
        try:
            catalog = Catalog.open(url)
            reader = sqlite3.connect(tmp_path / "ops kit%41.db")
            begin(catalog)
            reader.execute("select * from opskit_operations").fetchall()
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
            reader.close()
            catalog.close()
        finally:
            os.umask(before)
        assert len(modes) == 3
        assert set(modes.values()) == {0o600}

    def test_reading_goes_on_while_somebody_writes(self, catalog: Catalog, tmp_path: Path) -> None:
        """A writer that is in the middle of its transaction does not hold up readers; other writers wait for it."""
        row = begin(catalog)
        writer = sqlite3.connect(
            tmp_path / "ops kit%41.db", isolation_level=None, check_same_thread=False
        )
        writer.execute("begin immediate")
        assert catalog.get(row.id) == row
        release = threading.Timer(0.5, lambda: writer.execute("commit"))
        release.start()
        began = time.monotonic()
        catalog.update(row.id, Progress(phase="copy"))
        assert time.monotonic() - began > 0.3
        release.join()
        writer.close()


def test_a_reused_pid_is_not_the_same_process() -> None:
    """A living process of the same pid but another start is not the one that wrote the row."""
    identity = process_identity(os.getpid())
    place, _, start = identity.rpartition(":")
    assert not process_is_gone(os.getpid(), identity)
    assert process_is_gone(os.getpid(), f"{place}:{int(start) - 1}")


def test_a_process_of_another_place_is_never_declared_gone() -> None:
    """Where nobody here can look (another boot, container or system) only the heartbeat decides."""
    for identity in ("", "another-boot:pid:[4026531836]:77"):
        assert not process_is_gone(2**22 + 1, identity)
