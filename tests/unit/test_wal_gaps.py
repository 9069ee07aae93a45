"""What is missing from a WAL archive, on one timeline and over a fork, and what a download takes of it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit.errors import IntegrityError
from opskit.model.backup import BaseBackup
from opskit.model.lsn import Lsn
from opskit.model.wal import WalSegment
from opskit.operations.download_wal import choose_wal
from opskit.operations.wal_gaps import find_gaps, survey_timelines
from opskit.operations.wal_place import archive_place
from opskit.repository import Repository
from opskit.repository.wal import WalArchive
from opskit.store import LocalStore
from tests.support.records import record
from tests.support.wal import SYSTEM, made_up

SIZE = 1 << 20
FORK = b"1\t0/680000\tno recovery target specified\n"  # in the middle of segment 6


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository that knows the cluster."""
    made = Repository(LocalStore(tmp_path / "repository"))
    made.claim_cluster("main", SYSTEM, 18, SIZE)
    return made


@pytest.fixture
def archive(repository: Repository) -> WalArchive:
    """Its WAL archive, of segments of 1 MB."""
    return repository.known_wal("main")


def put(archive: WalArchive, timeline: int, *numbers: int) -> None:
    """Store made up segments."""
    for number in numbers:
        segment = WalSegment(timeline, number, SIZE)
        archive.put_segment(segment, made_up(segment))


def put_partial(archive: WalArchive, timeline: int, number: int) -> None:
    """Store the beginning of one."""
    segment = WalSegment(timeline, number, SIZE)
    archive.put_partial(segment, made_up(segment)[: SIZE // 2])


def backup(number: int, timeline: int = 1) -> BaseBackup:
    """A backup that was taken within a segment."""
    return record(
        datetime(2026, 11, 22, 14, number, tzinfo=UTC),
        system_identifier=SYSTEM,
        start_lsn=Lsn(number * SIZE + 40),
        stop_lsn=Lsn(number * SIZE + 400),
        timeline=timeline,
    )


def gaps(archive: WalArchive, *backups: BaseBackup) -> list[tuple[str, str, int]]:
    """First and last missing segment, and how many backups need it."""
    found = find_gaps(archive, survey_timelines(archive), backups)
    return [(g.first.name, g.last.name, len(g.backups)) for g in found]


def name(number: int, timeline: int = 1) -> str:
    """A segment's name."""
    return WalSegment(timeline, number, SIZE).name


def test_a_gap_matters_to_the_backups_before_it(archive: WalArchive) -> None:
    """What lies before every backup is shown, and matters to none."""
    put(archive, 1, 3, 4, 7, 8, 10)
    assert gaps(archive) == [(name(5), name(6), 0), (name(9), name(9), 0)]
    assert gaps(archive, backup(7)) == [(name(5), name(6), 0), (name(9), name(9), 1)]
    assert gaps(archive, backup(4)) == [(name(5), name(6), 1), (name(9), name(9), 1)]
    assert gaps(archive, backup(10)) == [(name(5), name(6), 0), (name(9), name(9), 0)]


def test_the_partial_is_the_end(archive: WalArchive) -> None:
    """The beginning of the next segment is no gap; of a later one it shows one."""
    put(archive, 1, 3, 4)
    put_partial(archive, 1, 5)
    assert gaps(archive) == []
    put_partial(archive, 1, 7)
    assert gaps(archive) == [(name(5), name(6), 0)]


def test_a_timeline_goes_on_from_its_fork(archive: WalArchive) -> None:
    """The segment of the fork is the new timeline's; a backup of the old one behind the fork does not need it."""
    archive.put_history(2, FORK)
    put(archive, 1, 3, 4, 5)
    put(archive, 2, 6, 7)
    assert gaps(archive, backup(3)) == []
    put(archive, 2, 9)
    assert gaps(archive, backup(3)) == [(name(8, 2), name(8, 2), 1)]
    other = replace(backup(7), stop_lsn=Lsn(0x700028))  # on the old timeline, behind the fork
    assert gaps(archive, other) == [(name(8, 2), name(8, 2), 0)]


def test_both_sides_of_a_fork_may_be_missing(archive: WalArchive) -> None:
    """An old timeline that ends too early, and a new one that begins too late."""
    archive.put_history(2, FORK)
    put(archive, 1, 3)
    put(archive, 2, 8)
    assert gaps(archive, backup(3)) == [(name(4), name(5), 1), (name(6, 2), name(7, 2), 1)]


def test_a_stream_goes_on_where_the_archive_lacks_something(archive: WalArchive) -> None:
    """Behind the end; earlier where the slot keeps what is missing; a little before the end where it was not told."""

    def place(restart: int | None) -> tuple[int, int] | None:
        found = archive_place(
            archive, archive.history(1), None if restart is None else Lsn(restart)
        )
        return (found.segment.number, found.durable // SIZE) if found else None

    assert place(0) is None
    put(archive, 1, 3, 4, 5, 6)
    assert place(None) == (7, 7)
    assert place(7 * SIZE + 1) == (7, 7)
    assert place(6 * SIZE + 1) == (6, 7)
    assert place(3 * SIZE) == (5, 7)
    put(archive, 1, 9)  # by other hands
    assert place(None) == (10, 10)
    assert place(5 * SIZE) == (7, 7)
    put_partial(archive, 1, 12)  # behind a gap that was allowed
    assert place(13 * SIZE) == (12, 12)


def test_a_damaged_partial_is_taken_anew(archive: WalArchive, tmp_path: Path) -> None:
    """The server has the segment still: the stream begins with it, and counts nothing of it as stored."""
    put(archive, 1, 3)
    put_partial(archive, 1, 4)
    [stored] = tmp_path.rglob("*.partial.zst")
    for damaged in (stored.read_bytes()[:-5] + bytes(5), b"", b"nonsense that is no frame at all"):
        stored.write_bytes(damaged)
        place = archive_place(archive, archive.history(1), None)
        assert place is not None
        assert (place.segment.number, place.durable) == (4, 4 * SIZE)
        assert gaps(archive) == []


def test_a_download_has_what_leads_on(archive: WalArchive, repository: Repository) -> None:
    """From the backup's start, over a fork, to the end and its partial; an end is no gap, a gap is refused."""

    def chosen(one: BaseBackup) -> tuple[list[str], str | None, tuple[int, ...]]:
        found = choose_wal(repository, one, None)
        partial = found.partial.segment.name if found.partial else None
        return [s.segment.name for s in found.segments], partial, found.timelines

    assert chosen(backup(3)) == ([], None, ())
    put(archive, 1, 3, 4, 5)
    assert chosen(backup(4)) == ([name(4), name(5)], None, ())
    archive.put_history(2, FORK)
    put(archive, 2, 6)
    put_partial(archive, 2, 7)
    assert chosen(backup(4)) == ([name(4), name(5), name(6, 2)], name(7, 2), (2,))
    assert chosen(backup(8)) == ([], None, ())
    put(archive, 2, 8)
    with pytest.raises(IntegrityError, match=f"{name(7, 2)} is missing"):
        chosen(backup(4))
