"""Servers that archive by ``opskit wal push`` and recover by ``opskit wal get``."""

from collections.abc import Callable
from pathlib import Path

import pytest

from opskit.config import Settings
from opskit.errors import ServerError
from opskit.model.backup import BaseBackup
from opskit.model.wal import WalSegment
from opskit.operations.monitor import SilentMonitor
from opskit.operations.restore import Layout, execute_restore, plan_restore
from opskit.operations.wal_files import push_file
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.store import open_store
from tests.servers import ServerFactory
from tests.support.backups import take, wait_until
from tests.support.majors import newest_first
from tests.support.streams import KEPT
from tests.support.wal import command_for_server

SEGMENTS = 3
MANY = 36
MEGABYTES = 1


def test_a_server_recovers_through_opskit_and_no_gap_looks_like_the_end(
    server: ServerFactory, settings: Callable[..., Settings], scratch: Path
) -> None:
    """Recovery by ``wal get`` has every row that ``wal push`` archived; at a gap the server refuses to start."""
    source = server({"archive_mode": "on"}, wal_segment_megabytes=MEGABYTES)
    configured = settings(source)
    repository = Repository(open_store(configured.repository_url))
    with command_for_server(configured, "push", scratch / "push", source.account) as push:
        source.query(f"ALTER SYSTEM SET archive_command = $${push}$$")
        source.query("SELECT pg_reload_conf()")
        source.query("CREATE TABLE events (segment int)")
        backup = take(source, repository)
        names = [_fill_a_segment(source, number) for number in range(SEGMENTS)]
        wait_until(lambda: _archived(source) >= names[-1], lambda: f"at {_archived(source)}", 120)
    archive = repository.known_wal("main")
    assert {s.segment.name for s in archive.segments(1)} >= set(names)
    folder = scratch / "opskit/repository/main/wal/00000001/00000000"
    with command_for_server(configured, "get", scratch / "get", source.account) as get:
        with _recovered(server, repository, backup, get, scratch / "whole") as copy:
            assert _events(copy) == list(range(SEGMENTS))
        aside = (folder / f"{names[1]}.zst").rename(scratch / "aside")
        with pytest.raises(ServerError) as refused:
            _recovered(server, repository, backup, get, scratch / "gap").start()
        log = (scratch / "gap.log").read_text()
        assert f'could not restore file "{names[1]}" from archive' in log, refused.value
        assert "exit code 208" in log
        assert "archive recovery complete" not in log
        for name in names[2:]:
            (folder / f"{name}.zst").unlink()
        with _recovered(server, repository, backup, get, scratch / "end") as copy:
            assert _events(copy) == [0]
        aside.rename(folder / aside.name)


@newest_first
def test_a_long_recovery_finds_every_row(
    server: ServerFactory, settings: Callable[..., Settings], scratch: Path
) -> None:
    """Through many segments, most of them fetched ahead, on two timelines: every row is there, and nothing is left."""
    source = server(KEPT, wal_segment_megabytes=MEGABYTES)
    configured = settings(source)
    repository = Repository(open_store(configured.repository_url))
    source.query("CREATE TABLE events (segment int)")
    backup = take(source, repository)
    names = [_fill_a_segment(source, number) for number in range(MANY)]
    _push(repository, source, names)
    with command_for_server(configured, "get", scratch / "get", source.account) as get:
        with _recovered(server, repository, backup, get, scratch / "first") as copy:
            assert _events(copy) == list(range(MANY))
            _is_tidy(copy)
            later = [_fill_a_segment(copy, MANY + number, 2) for number in range(SEGMENTS)]
            _push(repository, copy, ["00000002.history", *later])
        with _recovered(server, repository, backup, get, scratch / "second") as copy:
            assert _events(copy) == list(range(MANY + SEGMENTS))
            _is_tidy(copy)
    log = (scratch / "second.log").read_text()
    assert log.count("restored log file") >= MANY + SEGMENTS


def _push(repository: Repository, source: LocalServer, names: list[str]) -> None:
    """Archive what the server has switched away from."""
    for name in names:
        push_file(repository, "main", source.data_directory / "pg_wal" / name)


def _is_tidy(copy: LocalServer) -> None:
    """Of what was fetched ahead nothing is left, and nobody fetches any more."""
    pg_wal = copy.data_directory / "pg_wal"
    wait_until(lambda: not list(pg_wal.glob("opskit*")), lambda: str(list(pg_wal.iterdir())))


def _fill_a_segment(source: LocalServer, number: int, timeline: int = 1) -> str:
    """Write a row, and end the segment that it is in; that one's name."""
    source.query(f"INSERT INTO events VALUES ({number})")
    lsn = source.query("SELECT pg_switch_wal() - '0/0'::pg_lsn").rows[0][0]
    return WalSegment.ending_at(int(lsn), timeline, MEGABYTES << 20).name


def _archived(source: LocalServer) -> str:
    return str(
        source.query("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver").rows[0][0]
    )


def _recovered(
    server: ServerFactory, repository: Repository, backup: BaseBackup, command: str, directory: Path
) -> LocalServer:
    """A server of a restored data directory that recovers by `command`; to be started."""
    plan = plan_restore(backup, directory, layout=Layout.DATA_DIRECTORY)
    account = server.account
    execute_restore(
        plan, repository, SilentMonitor(), owner=(account.uid, account.gid) if account else None
    )
    (directory / "recovery.signal").touch()
    options = {"restore_command": command, "archive_mode": "off", "fsync": "off"}
    return server.on(directory, directory, directory.with_suffix(".log"), options=options)


def _events(copy: LocalServer) -> list[int]:
    wait_until(lambda: copy.query("SELECT NOT pg_is_in_recovery()").rows == [(True,)])
    return [row[0] for row in copy.query("SELECT segment FROM events ORDER BY 1").rows]
