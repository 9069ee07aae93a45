"""``wal status`` on real servers: a slot in danger, a server that is idle, a clock that jumps."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opskit.config import ClusterSettings, Settings
from opskit.operations.wal_status import wal_status
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.store import LocalStore
from tests.servers import ServerFactory
from tests.support.backups import wait_until
from tests.support.command import run_command
from tests.support.faulty import FaultyStore
from tests.support.majors import newest_first, only_18
from tests.support.slots import SLOT, restart_lsn, slot_state, walsender
from tests.support.streams import (
    KEPT,
    archived,
    assert_complete,
    caught_up,
    flushed,
    known,
    streaming,
)

SMALL = 1


def cluster(server: LocalServer) -> ClusterSettings:
    """The cluster ``main``."""
    return ClusterSettings(name="main", conninfo=server.conninfo())


def write_segments(server: LocalServer, count: int) -> None:
    """Let the server begin so many new segments."""
    for _ in range(count):
        server.query("SELECT pg_logical_emit_message(false, 'test', 'a little')")
        server.query("SELECT pg_switch_wal()")


def asked(settings: Settings) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of ``opskit wal status``, and its findings that did not pass."""
    done = run_command(settings, "wal", "status", "main", "--json")
    told = json.loads(done.stdout)
    failed = [finding for finding in told["findings"] if not finding["passed"]]
    assert told["passed"] == (not failed)
    return done.returncode, failed


@newest_first
def test_a_slot_near_its_limit_and_a_lost_one_are_findings(
    server: ServerFactory, settings: Callable[..., Settings], repository: Repository
) -> None:
    """The exit code is 0 while there is room, and 1 from four fifths of max_slot_wal_keep_size on."""
    options = {"max_slot_wal_keep_size": "10MB", "max_wal_size": "4MB", "min_wal_size": "2MB"}
    source = server(options, wal_segment_megabytes=SMALL)
    configured = settings(source)
    with streaming(source, repository):
        write_segments(source, 1)
        caught_up(source, known(repository))
        wait_until(lambda: restart_lsn(source) >= archived(known(repository)()))
    assert asked(configured) == (0, [])
    write_segments(source, 5)
    assert asked(configured) == (0, [])
    write_segments(source, 4)
    code, [near] = asked(configured)
    assert (code, near["name"]) == (1, "slot")
    assert re.search(r"near max_slot_wal_keep_size: [\d.]+ MB are left", near["message"])
    assert "raise max_slot_wal_keep_size" in near["hint"]
    write_segments(source, 6)
    source.query("CHECKPOINT")
    wait_until(lambda: slot_state(source) == "lost")
    code, [lost, *_] = asked(configured)
    assert (code, lost["name"]) == (1, "slot")
    assert f"{SLOT!r} is lost" in lost["message"]
    assert "--after-gap" in lost["hint"]


@only_18
def test_a_slot_that_was_lost_for_idleness_costs_no_gap(
    server: ServerFactory, settings: Callable[..., Settings], repository: Repository
) -> None:
    """The server invalidated it as nobody came, and has the WAL still: the stream makes a new one and goes on."""
    source = server({**KEPT, "idle_replication_slot_timeout": "1s"}, wal_segment_megabytes=SMALL)
    configured = settings(source)
    with streaming(source, repository):
        write_segments(source, 3)
        caught_up(source, known(repository))
    write_segments(source, 3)
    time.sleep(1.1)
    source.query("CHECKPOINT")
    assert slot_state(source) == "lost"
    code, [lost, *_] = asked(configured)
    assert (code, lost["name"]) == (1, "slot")
    assert "opskit wal stream main" in lost["hint"]
    with streaming(source, repository):
        write_segments(source, 1)
        caught_up(source, known(repository))
        assert asked(configured) == (0, [])
    assert assert_complete(known(repository)(), source) >= 7


@only_18
def test_an_idle_server_is_left_alone(
    server: ServerFactory, repository: Repository, scratch: Path
) -> None:
    """Idle for several of its own time-outs: the stream stays connected, stores nothing anew, and is not behind."""
    times = {"wal_sender_timeout": "1s", "idle_session_timeout": "1s"}
    source = server({**KEPT, **times}, wal_segment_megabytes=SMALL)
    store = FaultyStore(LocalStore(scratch / "opskit/repository"), verbs=("put",))
    with streaming(source, Repository(store), partial_seconds=0.05) as stream:
        write_segments(source, 2)
        caught_up(source, known(repository))
        source.query("CHECKPOINT")
        caught_up(source, known(repository))
        connection, puts, before = walsender(source), len(store.calls), flushed(source)
        time.sleep(4)
        again = len(store.calls) - puts
        assert again == 0 or (again <= 2 and flushed(source) > before), store.calls[puts:]
        assert walsender(source) == connection is not None
        wait_until(lambda: restart_lsn(source) == archived(known(repository)()) == flushed(source))
    assert not any("waiting" in phase for phase in stream.phases)
    for stored in (scratch / "opskit/repository/main/wal").rglob("*.zst"):
        os.utime(stored, (time.time() - 600, time.time() - 600))
    status = wal_status(cluster(source), repository)
    assert status.passed, status.findings
    assert (status.behind_bytes, status.behind.total_seconds() if status.behind else 0) == (0, 0)


@only_18
def test_an_idle_server_is_not_behind_whatever_the_clock_says(
    server: ServerFactory, repository: Repository, scratch: Path
) -> None:
    """Old or of the future, an archive that lacks nothing is well, and one that nobody writes to any more is not."""
    source = server(KEPT, wal_segment_megabytes=SMALL)

    def stored_at(jump: float) -> None:
        for stored in (scratch / "opskit/repository/main/wal").rglob("*.zst"):
            os.utime(stored, (time.time() + jump, time.time() + jump))

    with streaming(source, repository):
        write_segments(source, 2)
        caught_up(source, known(repository))
        for jump in (-86_400, 86_400):
            stored_at(jump)
            status = wal_status(cluster(source), repository)
            assert status.passed, status.findings
            assert status.behind_bytes == 0
    write_segments(source, 2)  # nobody streams
    for jump, said in ((-600, "at most 10 min old"), (86_400, "a clock was set back")):
        stored_at(jump)
        status = wal_status(cluster(source), repository, patience_seconds=0.5)
        [behind] = [f for f in status.findings if not f.passed]
        assert behind.name == "behind"
        assert said in behind.message
        assert (status.behind is None) == (jump > 0)
    asked_later = cluster(source)
    source.stop()
    away = wal_status(asked_later, repository)
    assert away.passed
    assert away.server is None
    assert "nothing is compared" in away.findings[-1].message
