"""Writes what the tests here read: ``python -m tests.compat.make FORMAT [FILE]``, by hand, once a format is released.

A file that was committed is not made again: that an opskit of its time wrote it is what it is for. For a format to
come, add a function to `WRITERS`, run this, and commit the file; the tests find it by its name. It needs PostgreSQL's
programs of the major that is named there. The evidence holds the host's name, and the place that this is run in: take
ones that mean nothing::

    unshare --uts sh -c 'hostname db.example.com && python -m tests.compat.make 1'

A file holds a folder ``released/`` with a repository, the reports and the catalog of one cluster, the public key of
the evidence, and ``told.json``: what the server itself had when each backup was taken. It stays small because the
cluster has one database, without what its catalogs only describe, and WAL segments of 1 MB.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from opskit.evidence.keys import init_key
from opskit.evidence.verify import verify_audit
from opskit.postgres.account import server_account
from opskit.postgres.programs import find_programs
from opskit.postgres.server import LocalServer
from opskit.runbooks import run_runbook
from tests.servers import ServerFactory, fingerprint
from tests.support.streams import caught_up, known, streaming

HERE = Path(__file__).parent
POINT = "second edition"
CONFIGURATION = """\
[repository]
url = "file:///./repository"
[catalog]
url = "sqlite:///opskit.db"
[reports]
directory = "reports"
[audit]
{audit}
[clusters.main]
conninfo = {conninfo}
"""
_SLIM = """
ALTER DATABASE template0 IS_TEMPLATE false; ALTER DATABASE template1 IS_TEMPLATE false;
DROP SCHEMA information_schema CASCADE;
DELETE FROM pg_description; DELETE FROM pg_shdescription;
DELETE FROM pg_collation WHERE collname NOT IN ('default', 'C', 'POSIX', 'ucs_basic');
"""
_BOOKS = """
CREATE TABLE books (id int PRIMARY KEY, title text);
INSERT INTO books SELECT n, 'volume ' || n FROM generate_series(1, 500) n;
CREATE TABLE lent (book int REFERENCES books, reader text) TABLESPACE shelf;
INSERT INTO lent SELECT n, 'reader ' || n % 7 FROM generate_series(1, 200) n;
SELECT lo_from_bytea(0, 'a picture of the library');
CHECKPOINT;
"""
_MORE = """
INSERT INTO books SELECT max(id) + 1, 'a later volume' FROM books;
DELETE FROM lent WHERE book % 10 = (SELECT count(*) % 10 FROM books);
"""


class Author:
    """A cluster that is backed up, and the notes of what it had."""

    def __init__(self, server: LocalServer, settings: Settings) -> None:
        self.server, self.settings = server, settings
        self.cluster = Cluster("main", settings)
        self.told: dict[str, Any] = {"major": server.programs.major, "backups": []}

    def back_up(self) -> None:
        """Take a backup as the schedule does, and note it."""
        result = run_runbook(self.settings, "scheduled_backup", "main")
        assert result.passed, result.reason
        backup = self.cluster.backup()
        self.told["backups"].append(
            {
                "name": backup.name,
                "kind": str(backup.kind),
                "parent": backup.parent,
                "tables": self.tables(),
            }
        )

    def tables(self) -> dict[str, list[Any]]:
        """What every table holds now: its number of rows, and a digest of them."""
        return tables(self.server)


def tables(server: LocalServer) -> dict[str, list[Any]]:
    """What every table of a server holds: its number of rows, and a digest of them."""
    return {f"{base} {name}": [*value] for (base, name), value in fingerprint(server).items()}


def _full_and_log(author: Author) -> None:
    """Format 1: a full backup, and WAL behind it that leads over a restore point."""
    with streaming(author.server, author.cluster.repository):
        author.back_up()
        author.server.query(_MORE)
        author.told["point"] = {"name": POINT, "tables": author.tables()}
        author.server.query(f"SELECT pg_create_restore_point('{POINT}')")
        author.server.query(_MORE)
        author.server.query("SELECT pg_switch_wal()")
        caught_up(author.server, known(author.cluster.repository))


def _chain(author: Author) -> None:
    """Format 2: a full backup and two increments."""
    for _ in range(3):
        author.back_up()
        author.server.query(_MORE)


def _consolidated(author: Author) -> None:
    """Format 3: an increment that was made a full backup where it lies, and one that is based on it."""
    for _ in range(2):
        author.back_up()
        author.server.query(_MORE)
    full = author.cluster.consolidate("latest")
    author.told["backups"][-1] |= {"kind": str(full.kind), "parent": full.parent}
    author.back_up()


WRITERS: Mapping[int, tuple[int, Mapping[str, str], Callable[[Author], None]]] = {
    1: (15, {}, _full_and_log),
    2: (18, {"summarize_wal": "on"}, _chain),
    3: (18, {"summarize_wal": "on"}, _consolidated),
}


def write(number: int, file: Path) -> None:
    """Write what a cluster of that format's own is kept as."""
    major, options, tell = WRITERS[number]
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="released-")))
        place.chmod(0o755)
        templates = place / "templates"
        templates.mkdir()
        factory = ServerFactory(find_programs(major), place, templates)
        stack.callback(factory.stop)
        home = place / "released"
        home.mkdir()
        server = _library(factory, options)
        author = Author(server, _settings(home, server))
        stack.callback(author.cluster.catalog.close)
        tell(author)
        verdict = verify_audit(author.settings)
        assert verdict.passed, verdict.findings
        author.told |= {
            "operations": len(author.cluster.operations()),
            "entries": verdict.entries,
            "reports": verdict.reports,
            "head": verdict.head.sha256,
        }
        author.cluster.catalog.close()
        (home / "told.json").write_text(json.dumps(author.told, indent=1), encoding="utf-8")
        for private in ("audit.key", "opskit.toml"):
            (home / private).unlink()
        packed = ["tar", "--sort=name", "--owner=0", "--group=0", "-C", str(place)]
        subprocess.run([*packed, "-I", "zstd -19", "-cf", str(file), "released"], check=True)


def _library(factory: ServerFactory, options: Mapping[str, str]) -> LocalServer:
    """A server of a cluster that takes little space."""
    server = factory(
        {"allow_system_table_mods": "on", **options}, wal_segment_megabytes=1, own_identifier=True
    )
    shelf = server.start_in / "shelf"
    shelf.mkdir(mode=0o700)
    account = server_account()
    if account is not None:
        subprocess.run(["chown", str(account.uid), str(shelf)], check=True)
    server.query(_SLIM)
    for statement in ("DROP DATABASE template0", "DROP DATABASE template1", "VACUUM FULL"):
        server.query(statement)
    server.query(f"CREATE TABLESPACE shelf LOCATION '{shelf}'")
    server.query(_BOOKS)
    return server


def _settings(home: Path, server: LocalServer) -> Settings:
    init_key(home / "audit.key")
    file = home / "opskit.toml"
    file.write_text(
        CONFIGURATION.format(audit='key = "audit.key"', conninfo=json.dumps(server.conninfo())),
        encoding="utf-8",
    )
    return load_settings(file)


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    write(wanted, Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / f"format-{wanted}.tar.zst")
