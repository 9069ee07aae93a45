"""The ``wal/`` folder of a download: tar and PostgreSQL alone go to any point in time that it covers."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.errors import IntegrityError
from opskit.model.wal import WalSegment
from opskit.postgres.server import LocalServer
from tests.servers import ServerFactory
from tests.support.backups import wait_until
from tests.support.by_hand import unpacked
from tests.support.streams import KEPT, caught_up, streaming

ROWS = 4
MEGABYTE = 1 << 20


@pytest.mark.every_major
def test_the_archive_goes_to_a_point_in_time_without_opskit(
    server: ServerFactory, settings: Callable[..., Settings], scratch: Path
) -> None:
    """Unpacked with tar, one line edited, and recovery.signal touched: the copy is as the cluster was then."""
    source = server(KEPT, wal_segment_megabytes=1)
    main = Cluster("main", settings(source))
    source.query("CREATE TABLE events (i int)")
    with streaming(source, main.repository):
        caught_up(source, lambda: main.repository.known_wal("main"))
        backup = main.create_backup()
        times = []
        for i in range(ROWS):
            source.query(f"INSERT INTO events VALUES ({i})")
            times.append(str(source.query("SELECT clock_timestamp()::text").rows[0][0]))
            if i % 2:
                source.query("SELECT pg_switch_wal()")
        source.query("INSERT INTO events VALUES (99)")
        caught_up(source, lambda: main.repository.known_wal("main"))
    archive = main.download(backup.name, scratch)
    main.catalog.close()
    wal = _members(archive)
    assert len(wal) >= 2
    first = WalSegment.holding(backup.start_lsn, 1, MEGABYTE)
    assert wal == [WalSegment(1, first.number + n, MEGABYTE).name for n in range(len(wal))]
    for wanted, rows in ((times[1], 2), (None, ROWS + 1)):
        folder = unpacked(archive, scratch / f"unpacked{rows}")
        own = folder / "wal"
        for name in wal[:-1]:
            assert (own / name).read_bytes() == (
                source.data_directory / "pg_wal" / name
            ).read_bytes()
        assert (own / wal[-1]).stat().st_size == MEGABYTE
        _recover_to(folder / "snapshot", wanted)
        snapshot = folder / "snapshot"
        copy = server.on(snapshot, snapshot / "data", folder / "log", argument="conf")
        with copy:
            _wait_for_the_end_of_recovery(copy)
            assert copy.query("SELECT count(*) FROM events").rows == [(rows,)]


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_what_a_download_takes_of_the_wal(
    server: ServerFactory, settings: Callable[..., Settings], scratch: Path
) -> None:
    """Up to the next backup, up to a time, or none; any range of it can be read; a gap is refused, as is damage."""
    source = server(KEPT, wal_segment_megabytes=1)
    main = Cluster("main", settings(source))
    assert (
        _members(main.download(main.create_backup().name, scratch / "nobody-streams.tar.zst")) == []
    )
    with streaming(source, main.repository):
        caught_up(source, lambda: main.repository.known_wal("main"))
        first = main.create_backup()
        for _ in range(3):
            source.query("CREATE TABLE IF NOT EXISTS t (i int); SELECT pg_switch_wal()")
        caught_up(source, lambda: main.repository.known_wal("main"))
        second = main.create_backup()
        source.query("DROP TABLE t; SELECT pg_switch_wal()")
        caught_up(source, lambda: main.repository.known_wal("main"))
    names = _members(main.download(first.name, scratch / "first.tar.zst"))
    assert names[-1] == WalSegment.ending_at(second.stop_lsn, 1, MEGABYTE).name
    assert _members(main.download(first.name, scratch / "none.tar.zst", wal=False)) == []
    before_all = "2020-01-01 00:00Z"
    assert len(_members(main.download(first.name, scratch / "u.tar.zst", until=before_all))) < len(
        names
    )
    for form in ("tar", "tar.gz"):
        converted = main.download(first.name, scratch / f"first.{form}", format=form)
        assert _members(converted) == names
    stored = scratch / "opskit/repository/main/wal/00000001/00000000"
    missing = stored / f"{names[2]}.zst"
    content = missing.read_bytes()
    missing.write_bytes(content[:-9] + bytes(9))
    with pytest.raises(IntegrityError, match="damaged"):
        main.download(first.name, scratch / "damaged.tar.zst")
    missing.unlink()
    with pytest.raises(IntegrityError, match=f"{names[2]} is missing") as refused:
        main.download(first.name, scratch / "gap.tar.zst")
    assert "--no-wal" in refused.value.hint
    assert not list(scratch.glob("*gap*"))
    main.catalog.close()


def _wait_for_the_end_of_recovery(copy: LocalServer) -> None:
    wait_until(lambda: copy.query("SELECT pg_is_in_recovery()").rows == [(False,)])


def _members(archive: Path) -> list[str]:
    listed = subprocess.run(
        ["tar", "-taf", str(archive)], capture_output=True, text=True, check=True
    )
    return re.findall(r"/wal/([0-9A-F]{24})$", listed.stdout, re.MULTILINE)


def _recover_to(snapshot: Path, wanted: str | None) -> None:
    """What the README says."""
    configuration = snapshot / "conf/postgresql.conf"
    text = configuration.read_text()
    if wanted is not None:
        text, edited = re.subn(
            r"^#recovery_target_time = .*$", f"recovery_target_time = '{wanted}'", text, flags=re.M
        )
        assert edited == 1
    configuration.write_text(text)
    (snapshot / "data/recovery.signal").touch()
