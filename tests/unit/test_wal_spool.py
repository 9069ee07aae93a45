"""Segments fetched ahead of a recovery, without a server: what it would leave of itself is made up."""

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from opskit.model.wal import WalSegment
from opskit.operations.recover import fetching_command
from opskit.operations.wal_files import push_file
from opskit.operations.wal_spool import most_segments
from opskit.repository import Repository
from opskit.store import LocalStore
from tests.support.backups import wait_until
from tests.support.wal import SYSTEM, made_up

PROJECT = Path(__file__).parents[2]
SIZE = 1 << 20
END, GAP = 100, 208


def segment(number: int, timeline: int = 1) -> WalSegment:
    """A segment of 1 MB."""
    return WalSegment(timeline, number, SIZE)


class Recovering:
    """A data directory as it is while a server recovers it, and the command that the server starts."""

    def __init__(self, directory: Path, config: Path) -> None:
        self.pg_wal = directory / "pg_wal"
        self.pg_wal.mkdir(parents=True)
        self.pid = directory / "postmaster.pid"
        self.pid.write_text(f"4711\n{directory}\n1700000000\n5432\n")
        (directory / "global").mkdir()
        (directory / "global/pg_control").write_bytes(int(SYSTEM).to_bytes(8, "little") + bytes(99))
        self.directory, self.config = directory, config
        self.spool = self.pg_wal / "opskit.spool"
        self.target = self.pg_wal / "RECOVERYXLOG"

    def command(self, name: str) -> list[str]:
        """What restore_command is with PostgreSQL's %f and %p in it."""
        target = "pg_wal/RECOVERYHISTORY" if "history" in name else "pg_wal/RECOVERYXLOG"
        return ["--config", str(self.config), "wal", "get", name, target]

    def get(self, name: str, *script: str) -> int:
        """Ask for a file, as `fetching_command` does; the exit code."""
        begin = script or shlex.split(fetching_command("main", None))[1:3]
        done = subprocess.run(
            [sys.executable, *begin, *self.command(name)],
            cwd=self.directory,
            env={"PYTHONPATH": str(PROJECT)},
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        return done.returncode

    def content(self, one: WalSegment) -> bytes:
        """What is given as a segment, which has to be there."""
        assert self.get(one.name) == 0
        content = self.target.read_bytes()
        self.target.unlink()
        return content

    def waiting(self) -> list[str]:
        """The segments that lie in the spool, whole."""
        if not self.spool.exists():
            return []
        return sorted(f.name for f in self.spool.iterdir() if len(f.name) == 24)

    def is_fetching(self) -> bool:
        """Whether somebody fetches ahead."""
        if not self.spool.exists():
            return False
        with (self.spool / "key").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def fetched(self) -> None:
        """Wait until nobody fetches ahead."""
        wait_until(lambda: not self.is_fetching(), lambda: f"fetching, has {self.waiting()}", 30)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of one cluster."""
    file = tmp_path / "opskit.toml"
    url = (tmp_path / "repository").as_uri()
    file.write_text(f'[repository]\nurl = "{url}"\n[clusters.main]\nconninfo = "host=/nowhere"\n')
    return file


@pytest.fixture
def recovering(tmp_path: Path, config: Path) -> Iterator[Recovering]:
    """A recovery; at its end nobody works for it any more."""
    one = Recovering(tmp_path / "data", config)
    yield one
    one.pid.unlink(missing_ok=True)
    one.fetched()


@pytest.fixture
def push(tmp_path: Path) -> Callable[..., None]:
    """Archive made up segments."""
    repository = Repository(LocalStore(tmp_path / "repository"))

    def pushed(*segments: WalSegment) -> None:
        for one in segments:
            file = tmp_path / one.name
            file.write_bytes(made_up(one))
            push_file(repository, "main", file)
            file.unlink()

    return pushed


def test_a_recovery_is_given_what_the_archive_has(
    recovering: Recovering, push: Callable[..., None]
) -> None:
    """Every segment comes as it is archived, the following ones from the spool; at the end nothing is left."""
    numbers = range(2, 12)
    push(*map(segment, numbers))
    assert recovering.get("00000002.history") == END
    for number in numbers:
        assert recovering.content(segment(number)) == made_up(segment(number))
        if number == numbers[0]:
            recovering.fetched()
            assert recovering.waiting() == [segment(n).name for n in numbers[1:]]
    assert recovering.get(segment(12).name) == END
    recovering.fetched()
    assert list(recovering.pg_wal.iterdir()) == []


def test_what_has_been_fetched_ahead_loads_nothing(
    recovering: Recovering, push: Callable[..., None]
) -> None:
    """A segment from the spool is given without loading any module of Python's that it did not start with, but one."""
    push(*map(segment, range(2, 60)))
    recovering.content(segment(2))
    recovering.fetched()
    code = (
        "import sys; before = set(sys.modules); from opskit.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "loaded = {name for name in sys.modules if not name.startswith('opskit')} - before\n"
        "assert loaded <= {'fcntl'}, loaded\n"
        "ours = [name for name in sys.modules if name.startswith('opskit.')]\n"
        "assert len(ours) <= 8, ours"
    )
    assert recovering.get(segment(3).name, "-c", code) == 0
    assert recovering.target.read_bytes() == made_up(segment(3))


def test_what_lies_in_the_data_directory_is_no_module(
    recovering: Recovering, push: Callable[..., None]
) -> None:
    """PostgreSQL starts the command there: a file that is named like a module is not run in its place."""
    for name in ("opskit.py", "fcntl.py", "typing.py", "zstandard.py"):
        (recovering.directory / name).write_text("raise SystemExit(0)")
    push(segment(2), segment(3))
    assert recovering.content(segment(2)) == made_up(segment(2))
    recovering.fetched()
    assert recovering.content(segment(3)) == made_up(segment(3))


def test_a_spool_is_bounded_and_filled_again(
    recovering: Recovering, push: Callable[..., None]
) -> None:
    """So many segments are fetched, and no more; nobody stays for them; when half are taken, more are fetched."""
    most = most_segments(SIZE)
    push(*map(segment, range(2, 2 * most)))
    recovering.content(segment(2))
    wait_until(lambda: len(recovering.waiting()) == most, lambda: str(recovering.waiting()), 30)
    recovering.fetched()
    assert recovering.waiting() == [segment(n).name for n in range(3, 3 + most)]
    for number in range(3, 3 + most // 2):
        assert recovering.content(segment(number)) == made_up(segment(number))
    wait_until(lambda: len(recovering.waiting()) == most, lambda: str(recovering.waiting()), 30)


@pytest.mark.parametrize(
    "left",
    ["", "cut", "other segment", "other cluster", "zeros", "a link", "a folder"],
)
def test_a_file_that_is_not_the_segment_is_never_given(
    recovering: Recovering, push: Callable[..., None], tmp_path: Path, left: str
) -> None:
    """Whatever lies under the name in the spool, PostgreSQL is given what the archive has."""
    push(*map(segment, range(2, 5)))
    recovering.content(segment(2))
    recovering.fetched()
    wanted = segment(3)
    file = recovering.spool / wanted.name
    whole = made_up(wanted)
    file.unlink()
    if left == "a link":
        (tmp_path / "elsewhere").write_bytes(whole)
        file.symlink_to(tmp_path / "elsewhere")
    elif left == "a folder":
        file.mkdir()
    else:
        file.write_bytes(
            {
                "": b"",
                "cut": whole[:-1],
                "other segment": made_up(segment(4)),
                "other cluster": made_up(wanted, system="12345"),
                "zeros": bytes(SIZE),
            }[left]
        )
    assert recovering.content(wanted) == whole
    assert recovering.content(segment(4)) == made_up(segment(4))


@pytest.mark.parametrize("what", ["run", "configuration", "cluster", "environment"])
def test_a_spool_serves_who_filled_it(
    recovering: Recovering, push: Callable[..., None], tmp_path: Path, what: str
) -> None:
    """What an earlier run of the server left, or one that asked another archive, is not given, and is removed."""
    push(*map(segment, range(2, 5)))
    recovering.content(segment(2))
    recovering.fetched()
    stale = made_up(segment(3), fill=b"s")
    (recovering.spool / segment(3).name).write_bytes(stale)
    assert recovering.content(segment(3)) == stale, "else this test shows nothing"
    (recovering.spool / segment(4).name).write_bytes(stale)
    asked = recovering.command(segment(4).name)
    environment = {"PYTHONPATH": str(PROJECT)}
    if what == "run":
        recovering.pid.write_text(recovering.pid.read_text().replace("1700000000", "1700000001"))
    elif what == "configuration":
        other = tmp_path / "other.toml"
        other.write_text(recovering.config.read_text())
        asked[1] = str(other)
    elif what == "cluster":
        asked += ["--cluster", "main"]
    else:
        environment["OPSKIT_CONFIG"] = str(recovering.config)
    subprocess.run(
        [sys.executable, "-m", "opskit", *asked],
        cwd=recovering.directory,
        env=environment,
        check=True,
    )
    assert recovering.target.read_bytes() == made_up(segment(4))


def test_a_gap_stays_a_gap(recovering: Recovering, push: Callable[..., None]) -> None:
    """A segment that is missing is missed, whatever has been fetched ahead; what is behind it is not fetched."""
    push(segment(2), segment(3), segment(5), segment(6))
    recovering.content(segment(2))
    recovering.fetched()
    assert (
        segment(5).name not in recovering.waiting() or segment(4).name not in recovering.waiting()
    )
    assert recovering.content(segment(3)) == made_up(segment(3))
    assert recovering.get(segment(4).name) == GAP
    recovering.fetched()
    assert not recovering.target.exists()


def test_timelines_are_kept_apart(recovering: Recovering, push: Callable[..., None]) -> None:
    """A segment of another timeline is fetched for itself, and what follows it on that one."""
    push(*map(segment, range(2, 7)), *(segment(n, timeline=2) for n in range(4, 7)))
    recovering.content(segment(2))
    recovering.fetched()
    assert recovering.content(segment(3)) == made_up(segment(3))
    for number in range(4, 7):
        one = segment(number, timeline=2)
        assert recovering.content(one) == made_up(one)
    recovering.fetched()
    assert recovering.waiting() == []


def test_many_may_ask_at_once(
    tmp_path: Path, config: Path, recovering: Recovering, push: Callable[..., None]
) -> None:
    """Two servers recover from one archive, and calls for one segment meet: each is given what it asked for."""
    push(*map(segment, range(2, 9)))
    other = Recovering(tmp_path / "other", config)
    with ThreadPoolExecutor(4) as threads:
        for number in range(2, 9):
            asked = [recovering, other, recovering]
            codes = list(threads.map(lambda one: one.get(segment(number).name), asked))  # noqa: B023
            assert codes == [0, 0, 0]
            for one in (recovering, other):
                assert one.target.read_bytes() == made_up(segment(number))
                one.target.unlink()
    other.pid.unlink()
    other.fetched()


def test_who_was_killed_while_fetching_is_not_waited_for(
    recovering: Recovering, push: Callable[..., None]
) -> None:
    """What a killed process had begun to fetch is fetched anew, at once; its half is removed."""
    push(*map(segment, range(2, 5)))
    recovering.content(segment(2))
    recovering.fetched()
    (recovering.spool / segment(3).name).rename(recovering.spool / f"{segment(3).name}.unfinished")
    left = recovering.pg_wal / "opskit.spool.4711.gone"
    left.mkdir()
    (left / segment(9).name).touch()
    began = time.monotonic()
    assert recovering.content(segment(3)) == made_up(segment(3))
    assert time.monotonic() - began < 5
    recovering.fetched()
    assert not left.exists()
    assert [f for f in recovering.spool.iterdir() if "unfinished" in f.name] == []


def test_nobody_fetches_for_a_server_that_has_ended(
    recovering: Recovering, push: Callable[..., None]
) -> None:
    """When the server ends while a process fetches ahead for it, the spool goes with it."""
    push(*map(segment, range(2, 2 * most_segments(SIZE))))
    recovering.content(segment(2))
    recovering.pid.unlink()
    wait_until(lambda: not list(recovering.pg_wal.iterdir()), lambda: str(recovering.waiting()), 10)


def test_a_server_that_is_stopped_ends_who_fetches(
    recovering: Recovering, push: Callable[..., None]
) -> None:
    """Who fetches ahead is in the process group that PostgreSQL ends, and leaves nobody a crash to look at."""
    push(*map(segment, range(2, 2 * most_segments(SIZE))))
    shell = f"{shlex.join([sys.executable, '-m', 'opskit', *recovering.command(segment(2).name)])}; exec sleep 60"
    started = subprocess.Popen(
        ["sh", "-c", shell],
        cwd=recovering.directory,
        env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"},
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(recovering.waiting()) > 2, lambda: str(recovering.waiting()), 30)
        assert recovering.is_fetching()
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait()
    wait_until(lambda: not recovering.is_fetching(), lambda: "fetching", 1)
    assert recovering.content(segment(3)) == made_up(segment(3))


def test_without_a_server_nothing_is_fetched_ahead(
    recovering: Recovering, push: Callable[..., None]
) -> None:
    """Who fetches one segment by hand finds one file."""
    push(segment(2), segment(3))
    recovering.pid.unlink()
    assert recovering.get(segment(2).name) == 0
    assert list(recovering.pg_wal.iterdir()) == [recovering.target]
