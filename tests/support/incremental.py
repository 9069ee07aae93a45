"""Chains of backups on test servers: what changes between two of them, and what PostgreSQL's own tool makes of them."""

import os
import random
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from opskit.config import ClusterSettings
from opskit.model.backup import BaseBackup, Trigger
from opskit.model.increment import BackupMode, IncrementalRules
from opskit.operations.backup import create_backup
from opskit.operations.consolidate import execute_consolidate, plan_consolidate
from opskit.operations.monitor import Monitor, SilentMonitor
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.repository.records import contents_folder
from opskit.repository.snapshot import AUTO_CONF, backup_folder

SUMMARIZING = {"summarize_wal": "on"}
# So that only what a test is about decides.
PATIENT = IncrementalRules(increments=100, percent=10_000)


def take_next(
    server: LocalServer,
    repository: Repository,
    mode: BackupMode = BackupMode.AUTO,
    rules: IncrementalRules = PATIENT,
    monitor: Monitor | None = None,
) -> BaseBackup:
    """Take a backup of the cluster ``main``, an increment if it can be one."""
    return create_backup(
        ClusterSettings(name="main", conninfo=server.conninfo(), incremental=rules),
        repository,
        trigger=Trigger.ON_DEMAND,
        note="",
        monitor=monitor or SilentMonitor(),
        mode=mode,
    )


def consolidated(repository: Repository, backup: BaseBackup) -> BaseBackup:
    """Make an increment of ``main`` a full backup; nobody reads it."""
    plan = plan_consolidate(repository, "main", backup.name)
    now = datetime.now(UTC)
    return execute_consolidate(plan, repository, now, SilentMonitor(), is_read=lambda: False)


def combine_by_hand(
    server: LocalServer, stored: Path, chain: Sequence[BaseBackup], work: Path
) -> tuple[Path, dict[int, Path]]:
    """Unpack the volumes of a chain, the full backup first, with `tar`, and combine them with `pg_combinebackup`.

    As docs/format.md tells it. Returns the data directory, and the tablespaces' by their oids.
    """
    work.mkdir()
    for backup in chain:
        volumes = stored / contents_folder(backup) / "snapshot-*.tar.zst"
        line = f"cat {volumes} | zstd -dq | tar -x -C {work}"
        subprocess.run(["sh", "-c", line], check=True)
    snapshots = [work / backup_folder(backup.name) / "snapshot" for backup in chain]
    spaces: dict[int, Path] = {}
    mappings = []
    for space in chain[-1].tablespaces:
        place = snapshots[-1] / "tablespaces" / str(space.oid)
        link = snapshots[-1] / "data/pg_tblspc" / str(space.oid)
        link.unlink()
        link.symlink_to(place)
        spaces[space.oid] = work / f"combined-{space.oid}"
        mappings += ["-T", f"{place}={spaces[space.oid]}"]
    if server.account is not None:
        subprocess.run(["chown", "-R", str(server.account.uid), str(work)], check=True)
    combined = work / "combined"
    done = server.run(
        "pg_combinebackup",
        *[str(snapshot / "data") for snapshot in snapshots],
        "-o",
        str(combined),
        *mappings,
    )
    assert done.exit_code == 0, done.output
    return combined, spaces


def assert_equal_trees(
    ours: Path, theirs: Path, *, but: frozenset[str] = frozenset({"backup_manifest"})
) -> None:
    """The same files and folders, byte for byte but for the manifest; the label is the same, too."""
    assert _paths(ours) - {AUTO_CONF} == _paths(theirs) - {AUTO_CONF}
    differing = [
        path
        for path in sorted(_paths(theirs) - {AUTO_CONF} - but)
        if (theirs / path).is_file()
        and not (theirs / path).is_symlink()
        and (ours / path).read_bytes() != (theirs / path).read_bytes()
    ]
    assert differing == []


def _paths(root: Path) -> set[str]:
    return {
        os.path.relpath(Path(folder, name), root)
        for folder, folders, files in os.walk(root)
        for name in (*folders, *files)
    }


class Turmoil:
    """Random DDL and DML on a server, as far as it changes files in ways of its own."""

    def __init__(self, server: LocalServer, seed: random.Random) -> None:
        self._server, self._seed = server, seed
        self._tables: list[str] = []
        self._databases: list[str] = []
        self._spaces: list[str] = []
        self._made = 0
        self.done: list[str] = []

    def churn(self, steps: int) -> None:
        """Do a number of random things."""
        always = [self._new_table, self._new_table, self._new_database, self._new_space]
        with_table = [
            self._insert,
            self._update,
            self._update,
            self._delete_tail,
            self._delete_tail,
            self._truncate,
            self._rewrite,
            self._move,
            self._vacuum,
            self._drop_table,
            self._index,
            self._copy_away,
        ]
        for _ in range(steps):
            actions: list[Callable[[], None]] = [*always, self._drop_database, self._drop_space]
            if self._tables:
                actions += with_table * 2
            self._seed.choice(actions)()
        if self._seed.random() < 0.3:
            self._do("CHECKPOINT")

    def _do(self, *statements: str) -> None:
        for statement in statements:
            self.done.append(statement)
            self._server.query(statement)

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"{kind}{self._made}"

    def _table(self) -> str:
        return self._seed.choice(self._tables)

    def _space(self) -> str:
        return self._seed.choice([*self._spaces, "pg_default"])

    def _rows(self) -> str:
        first = self._seed.randrange(1_000_000)
        count = self._seed.choice([1, 50, 3_000, 20_000])
        return f"SELECT i, md5(i::text) FROM generate_series({first}, {first + count}) i"

    def _new_table(self) -> None:
        name = self._name("t")
        unlogged = "UNLOGGED" if self._seed.random() < 0.15 else ""
        self._do(
            f"CREATE {unlogged} TABLE {name} (i int, v text) TABLESPACE {self._space()}",
            f"INSERT INTO {name} {self._rows()}",
        )
        self._tables.append(name)

    def _insert(self) -> None:
        self._do(f"INSERT INTO {self._table()} {self._rows()}")

    def _update(self) -> None:
        where = self._seed.choice(["i % 997 = 0", "i % 7 = 0", "i < 100000", "true"])
        self._do(f"UPDATE {self._table()} SET v = md5(v) WHERE {where}")

    def _delete_tail(self) -> None:
        table, pages = self._table(), self._seed.randrange(40)
        self._do(f"DELETE FROM {table} WHERE ctid >= '({pages},0)'", f"VACUUM {table}")

    def _truncate(self) -> None:
        self._do(f"TRUNCATE {self._table()}")

    def _rewrite(self) -> None:
        self._do(f"VACUUM FULL {self._table()}")

    def _move(self) -> None:
        self._do(f"ALTER TABLE {self._table()} SET TABLESPACE {self._space()}")

    def _vacuum(self) -> None:
        self._do(f"VACUUM (FREEZE) {self._table()}")

    def _index(self) -> None:
        table = self._table()
        self._do(
            f"CREATE INDEX ON {table} (v) TABLESPACE {self._space()}", f"REINDEX TABLE {table}"
        )

    def _drop_table(self) -> None:
        self._tables.remove(table := self._table())
        self._do(f"DROP TABLE {table}")

    def _copy_away(self) -> None:
        """The rows go on in a new relation under the old name."""
        table = self._table()
        self._do(
            f"CREATE TABLE moved AS SELECT * FROM {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE moved RENAME TO {table}",
        )

    def _new_database(self) -> None:
        if len(self._databases) >= 2:
            return
        name, strategy = self._name("d"), self._seed.choice(["wal_log", "file_copy"])
        self._do(f"CREATE DATABASE {name} STRATEGY {strategy} TABLESPACE {self._space()}")
        self._databases.append(name)

    def _drop_database(self) -> None:
        if self._databases:
            self._do(f"DROP DATABASE {self._databases.pop()}")

    def _new_space(self) -> None:
        if len(self._spaces) >= 3:
            return
        name = self._name("s")
        place = self._server.start_in / name
        place.mkdir(mode=0o700)
        if self._server.account is not None:
            os.chown(place, self._server.account.uid, self._server.account.gid)
        self._do(f"CREATE TABLESPACE {name} LOCATION '{place}'")
        self._spaces.append(name)

    def _drop_space(self) -> None:
        """Empty the last one and drop it."""
        if not self._spaces:
            return
        name = self._spaces.pop()
        for database in self._databases:
            self._do(f"DROP DATABASE {database}")
        self._databases.clear()
        self._do(
            f"ALTER TABLE ALL IN TABLESPACE {name} SET TABLESPACE pg_default",
            f"ALTER INDEX ALL IN TABLESPACE {name} SET TABLESPACE pg_default",
            f"DROP TABLESPACE {name}",
        )
