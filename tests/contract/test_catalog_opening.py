"""Opening a catalog: URLs that cannot be one's, databases that are none, and those of another opskit's."""

import json
import sqlite3
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from opskit.catalog import Catalog
from opskit.catalog._tables import HEAD
from opskit.errors import ErrorKind, InputError, StoreError
from opskit.model.operation import OperationStatus
from tests.contract.catalogs import assert_chain, begin


class TestUrls:
    """URLs that cannot be a catalog's, and databases that are none."""

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "opskit.db",
            "sqlite://",
            "sqlite:///:memory:",
            "mysql://host/db",
            "postgresql+asyncpg://h/d",
        ],
    )
    def test_a_wrong_url_is_refused(self, url: str) -> None:
        """What is no file and no PostgreSQL is a wrong setting, with what was expected."""
        with pytest.raises(InputError, match="expected 'sqlite:///file'") as raised:
            Catalog.open(url)
        assert raised.value.kind is ErrorKind.WRONG_SETTING

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        """A catalog in a folder that does not exist says which, and what to do."""
        with pytest.raises(StoreError, match="no such file") as raised:
            Catalog.open(f"sqlite:///{tmp_path}/missing/opskit.db")
        assert raised.value.kind is ErrorKind.CATALOG_FAILED
        assert raised.value.hint

    def test_a_file_that_is_no_database_is_refused(self, tmp_path: Path) -> None:
        """A file of something else is not touched."""
        file = tmp_path / "opskit.db"
        file.write_text("[repository]\n" * 1000)
        with pytest.raises(StoreError, match="not a database"):
            Catalog.open(f"sqlite:///{file}")
        assert file.read_text() == "[repository]\n" * 1000

    def test_a_newer_catalog_is_refused(self, tmp_path: Path) -> None:
        """A catalog that a newer opskit migrated is left alone."""
        url = f"sqlite:///{tmp_path}/opskit.db"
        Catalog.open(url).close()
        connection = sqlite3.connect(tmp_path / "opskit.db")
        with connection:
            connection.execute("update opskit_catalog_version set version_num = '9999'")
        connection.close()
        with pytest.raises(StoreError, match="'9999'") as raised:
            Catalog.open(url)
        assert raised.value.kind is ErrorKind.UNKNOWN_FORMAT

    def test_a_server_that_is_down_is_told_without_the_password(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No password, wherever it came from, is in the error of a server that does not answer."""
        monkeypatch.setenv("PGPASSWORD", "planted-in-environment")
        with pytest.raises(StoreError) as raised:
            Catalog.open(
                "postgresql://focker:planted-in-url@127.0.0.1:1/ops?password=planted-in-query"
            )
        told = repr(raised.value) + json.dumps(raised.value.as_dict())
        assert raised.value.kind is ErrorKind.CATALOG_FAILED
        assert not raised.value.permanent
        assert "127.0.0.1" in told
        assert "planted" not in told


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    """`HEAD` names the last migration in the package."""
    configuration = Config()
    configuration.set_main_option("script_location", "opskit.catalog:migrations")
    configuration.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(configuration).get_current_head() == HEAD


def test_the_migrations_lead_to_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    """Alembic finds no difference between the migrated database and the tables in the code."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    from opskit.catalog._tables import VERSION_TABLE, metadata

    Catalog.open(f"sqlite:///{tmp_path}/opskit.db").close()
    engine = create_engine(f"sqlite:///{tmp_path}/opskit.db")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_operations_of_before_the_log_are_not_entered(tmp_path: Path) -> None:
    """A catalog that an older opskit made is migrated; nobody vouches for what had ended by then."""
    from alembic import command
    from sqlalchemy import create_engine

    url = f"sqlite:///{tmp_path}/opskit.db"
    engine = create_engine(url)
    with engine.begin() as connection:
        configuration = Config()
        configuration.set_main_option("script_location", "opskit.catalog:migrations")
        configuration.set_main_option("path_separator", "os")
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "0001")
        connection.execute(
            text(
                "insert into opskit_operations (id, kind, cluster, status, host, pid, process, actor, parameters,"
                " started_at, heartbeat_at, ended_at, phase, bytes_done) values ('old', 'backup', 'main', 'complete',"
                " 'host', 1, '', 'a', '{}', '2026-01-01', '2026-01-01', '2026-01-01', 'end', 0)"
            )
        )
    engine.dispose()
    catalog = Catalog.open(url)
    assert [row.id for row in catalog.operations()] == ["old"]
    row = begin(catalog)
    catalog.finish(row.id, OperationStatus.COMPLETE)
    assert_chain(catalog, [row.id])
    catalog.close()
