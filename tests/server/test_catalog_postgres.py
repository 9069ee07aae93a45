"""The catalog's contract on real PostgreSQL servers, and what only a server can do to it."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from opskit.catalog import Catalog
from opskit.errors import ErrorKind, StoreError
from opskit.model.operation import OperationKind, OperationStatus, Progress
from opskit.operations.recorder import recorded
from opskit.postgres.programs import Programs
from opskit.postgres.server import LocalServer
from tests.contract.catalogs import CatalogSuite, begin
from tests.servers import ServerFactory
from tests.support.majors import newest_first

_numbers = count(1)

# The oldest and the newest supported major: the catalog uses nothing that came or went between them.
pytestmark = newest_first


@pytest.fixture(scope="module")
def catalog_server(programs: Programs, base: Path) -> Iterator[LocalServer]:
    """A server for this module's catalogs."""
    directory = Path(tempfile.mkdtemp(prefix=f"catalog-{programs.major}-", dir=base))
    directory.chmod(0o755)
    factory = ServerFactory(programs, directory, base / "templates")
    try:
        yield factory()
    finally:
        factory.stop()
        shutil.rmtree(directory)


@pytest.fixture
def url(catalog_server: LocalServer) -> str:
    """A database that nobody has used yet."""
    database = f"catalog {next(_numbers)}"
    catalog_server.query(f'CREATE DATABASE "{database}"')
    return (
        f"postgresql://focker@/{database.replace(' ', '%20')}"
        f"?host={catalog_server.socket_directory}&port={catalog_server.port}"
    )


class TestOnPostgresql(CatalogSuite):
    """The catalog in a PostgreSQL database."""

    @pytest.fixture
    def url(self, url: str) -> str:
        """As above, in place of the suite's."""
        return url

    def test_a_server_that_restarts_does_not_fail_the_operation(
        self, url: str, catalog_server: LocalServer
    ) -> None:
        """Connections that were cut while an operation runs are replaced, and its end is recorded."""
        catalog = Catalog.open(url)
        row = begin(catalog)
        with recorded(
            lambda: catalog, kind=row.kind, cluster="main", parameters={}, actor="tester"
        ) as recorder:
            recorder.report(Progress(phase="copy", bytes_done=1))
            time.sleep(1)
            catalog_server.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            recorder.report(Progress(phase="copy", bytes_done=2))
            time.sleep(1)
        read = catalog.get(recorder.operation_id)
        assert (read.status, read.progress.bytes_done) == (OperationStatus.COMPLETE, 2)
        catalog.close()

    def test_other_tables_of_the_database_are_left_alone(
        self, url: str, catalog_server: LocalServer
    ) -> None:
        """A database that Alembic serves for somebody else keeps its own version table."""
        database = url.partition("@/")[2].partition("?")[0].replace("%20", " ")
        catalog_server.query("CREATE TABLE alembic_version (version_num text)", database)
        catalog_server.query("INSERT INTO alembic_version VALUES ('theirs')", database)
        Catalog.open(url).close()
        tables = catalog_server.query(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " ORDER BY 1",
            database,
        )
        names = [name for (name,) in tables.rows]
        ours = ["opskit_audit", "opskit_catalog_version", "opskit_operations"]
        assert names == ["alembic_version", *ours]
        theirs = catalog_server.query("SELECT version_num FROM alembic_version", database)
        assert theirs.rows == [("theirs",)]


def test_a_refused_login_shows_no_password(
    catalog_server: LocalServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password in the environment that the server refuses appears nowhere in the error."""
    monkeypatch.setenv("PGPASSWORD", "planted-in-environment")
    with pytest.raises(StoreError) as raised:
        Catalog.open(url.replace("focker@", "nobody:planted-in-url@"))
    told = repr(raised.value) + json.dumps(raised.value.as_dict())
    assert raised.value.kind is ErrorKind.CATALOG_FAILED
    assert "nobody" in told
    assert "planted" not in told


def test_a_role_without_rights_is_told_so(catalog_server: LocalServer, url: str) -> None:
    """A role that may not create tables gets the server's own words."""
    exists = catalog_server.query("SELECT 1 FROM pg_roles WHERE rolname = 'reader'")
    if not exists.rows:
        catalog_server.query("CREATE ROLE reader LOGIN")
    with pytest.raises(StoreError, match="permission denied"):
        Catalog.open(url.replace("focker@", "reader@"))


def test_attempts_of_many_clusters_are_read_at_once(catalog_server: LocalServer, url: str) -> None:
    """Scheduled backups since each cluster's time, the oldest first; a heartbeat that stopped reads as died."""
    catalog = Catalog.open(url)
    since = datetime.now(UTC) - timedelta(hours=1)
    scheduled = {"trigger": "scheduled", "scheduled_for": since.isoformat()}

    def tried(cluster: str, kind: OperationKind, parameters: dict[str, str]) -> str:
        return catalog.start(kind=kind, cluster=cluster, parameters=parameters, actor="tester").id

    for status in (OperationStatus.FAILED, OperationStatus.COMPLETE):
        catalog.finish(tried("a", OperationKind.BACKUP, scheduled), status, backup="taken")
    tried("a", OperationKind.EXPIRE, scheduled)
    tried("a", OperationKind.BACKUP, {"trigger": "on demand"})
    lost = tried("b", OperationKind.BACKUP, {"trigger": "scheduled"})
    tried("b", OperationKind.BACKUP, scheduled)
    catalog.finish(tried("late", OperationKind.BACKUP, scheduled), OperationStatus.COMPLETE)
    tried("other", OperationKind.BACKUP, scheduled)
    database = url.partition("@/")[2].partition("?")[0].replace("%20", " ")
    catalog_server.query(
        f"UPDATE opskit_operations SET heartbeat_at = now() - interval '2 minutes' WHERE id = '{lost}'",
        database,
    )
    asked = {"a": since, "b": since, "late": since + timedelta(hours=2), "none": since}
    found = catalog.attempts(asked)
    assert {name: [one.status for one in tries] for name, tries in found.items()} == {
        "a": [OperationStatus.FAILED, OperationStatus.COMPLETE],
        "b": [OperationStatus.DIED, OperationStatus.RUNNING],
    }
    assert [(one.backup, one.period) for one in found["a"]] == [("taken", since)] * 2
    assert found["b"][0].period == catalog.get(lost).started_at
    catalog.close()
