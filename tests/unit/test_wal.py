"""WAL files pushed and fetched one by one, without a server."""

import subprocess
import sys
from pathlib import Path

import pytest

from opskit.cli import main
from opskit.errors import ConflictError, InputError, IntegrityError, NotFoundError, RecoveryError
from opskit.model.wal import WalSegment, check_segment, read_segment_header, written_bytes
from opskit.operations.inventory import take_inventory
from opskit.operations.wal_files import get_file, push_file
from opskit.repository import Repository
from opskit.store import LocalStore
from tests.support.wal import MAGIC, PAGE, SYSTEM, made_up

SIZE = 1 << 20
HISTORY = b"1\t0/550000\tno recovery target specified\n"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository."""
    return Repository(LocalStore(tmp_path / "repository"))


@pytest.fixture
def pg_wal(tmp_path: Path) -> Path:
    """The folder of a server's WAL."""
    folder = tmp_path / "data/pg_wal"
    folder.mkdir(parents=True)
    return folder


def segment(number: int, timeline: int = 1) -> WalSegment:
    """A segment of 1 MB."""
    return WalSegment(timeline, number, SIZE)


def push(repository: Repository, pg_wal: Path, name: str, content: bytes) -> None:
    """Push a file of that content."""
    (pg_wal / name).write_bytes(content)
    push_file(repository, "main", pg_wal / name)
    (pg_wal / name).unlink()


def push_segments(repository: Repository, pg_wal: Path, *numbers: int, timeline: int = 1) -> None:
    """Push made up segments."""
    for number in numbers:
        one = segment(number, timeline)
        push(repository, pg_wal, one.name, made_up(one))


def get(repository: Repository, pg_wal: Path, name: str) -> bytes | None:
    """What PostgreSQL is given under that name; `None` for the end."""
    path = pg_wal / "RECOVERYXLOG"
    path.unlink(missing_ok=True)
    if not get_file(repository, "main", name, path):
        assert not path.exists()
        return None
    assert [file.name for file in pg_wal.iterdir() if "unfinished" in file.name] == []
    return path.read_bytes()


@pytest.mark.parametrize("major", sorted(MAGIC))
def test_a_segment_s_header_tells_whose_it_is(major: int) -> None:
    """System identifier, address, size, timeline and PostgreSQL's major version are read from the first page."""
    one = segment(5, 3)
    header = read_segment_header(made_up(one, major=major))
    assert (header.system_identifier, header.start, header.segment_bytes) == (
        SYSTEM,
        one.start,
        SIZE,
    )
    assert (header.timeline, header.postgresql_major) == (3, major)


@pytest.mark.parametrize("behind", [b"\0", b"old"])
def test_what_is_written_ends_where_the_file_is_what_it_was(behind: bytes) -> None:
    """Behind the last page of a segment are zeros, or pages of the segment that the file was before."""
    content = made_up(segment(5), pages=3)
    if behind != b"\0":
        content = content[: 3 * PAGE] + made_up(segment(2))[3 * PAGE :]
    assert written_bytes(content) == 3 * PAGE


def test_pushed_files_come_back(repository: Repository, pg_wal: Path) -> None:
    """Segments and history files come back byte for byte; what was not pushed yet is the end."""
    push_segments(repository, pg_wal, 4, 5)
    push(repository, pg_wal, "00000002.history", HISTORY)
    assert get(repository, pg_wal, segment(4).name) == made_up(segment(4))
    assert get(repository, pg_wal, segment(5).name) == made_up(segment(5))
    assert get(repository, pg_wal, "00000002.history") == HISTORY
    assert get(repository, pg_wal, segment(6).name) is None
    assert get(repository, pg_wal, segment(4, timeline=2).name) is None
    assert get(repository, pg_wal, "00000003.history") is None
    assert get(repository, pg_wal, "00000001.history") is None


def test_a_push_may_be_repeated(repository: Repository, pg_wal: Path) -> None:
    """The same content again is well; other content under the name is a conflict, and changes nothing."""
    push_segments(repository, pg_wal, 4, 4)
    push(repository, pg_wal, "00000002.history", HISTORY)
    push(repository, pg_wal, "00000002.history", HISTORY)
    with pytest.raises(ConflictError, match=f"{segment(4).name} is in the archive already"):
        push(repository, pg_wal, segment(4).name, made_up(segment(4), fill=b"x"))
    with pytest.raises(ConflictError, match="timeline 2 is in the archive already"):
        push(repository, pg_wal, "00000002.history", HISTORY.replace(b"55", b"56"))
    assert get(repository, pg_wal, segment(4).name) == made_up(segment(4))


def test_another_cluster_s_files_are_refused(repository: Repository, pg_wal: Path) -> None:
    """The name belongs to the first system identifier and major version; a history file is known by its folder."""
    push_segments(repository, pg_wal, 4)
    with pytest.raises(ConflictError, match="belongs to system identifier 7000000000000000001"):
        push(repository, pg_wal, segment(5).name, made_up(segment(5), system="12345"))
    with pytest.raises(ConflictError, match="PostgreSQL 18"):
        push(repository, pg_wal, segment(5).name, made_up(segment(5), major=17))
    control = pg_wal.parent / "global/pg_control"
    control.parent.mkdir()
    control.write_bytes((12345).to_bytes(8, "little") + bytes(100))
    with pytest.raises(ConflictError, match="is of 12345"):
        push(repository, pg_wal, "00000002.history", HISTORY)
    control.write_bytes(int(SYSTEM).to_bytes(8, "little") + bytes(100))
    push(repository, pg_wal, "00000002.history", HISTORY)


def test_what_is_not_what_its_name_says_is_refused(repository: Repository, pg_wal: Path) -> None:
    """A segment under another's name, one that is cut off, and no WAL at all are not stored."""
    push_segments(repository, pg_wal, 4)
    with pytest.raises(IntegrityError, match="address"):
        push(repository, pg_wal, segment(6).name, made_up(segment(5)))
    with pytest.raises(IntegrityError, match=f"expected {SIZE}"):
        push(repository, pg_wal, segment(5).name, made_up(segment(5))[:-1])
    with pytest.raises(IntegrityError, match="does not begin like a WAL segment"):
        push(repository, pg_wal, segment(5).name, bytes(SIZE))
    with pytest.raises(InputError, match="is not the name of a WAL file"):
        push(repository, pg_wal, "notes.txt", b"")
    with pytest.raises(InputError, match="cannot be read"):
        push_file(repository, "main", pg_wal / segment(9).name)
    assert get(repository, pg_wal, segment(5).name) is None


def test_a_backup_label_is_not_needed(repository: Repository, pg_wal: Path) -> None:
    """The labels that old ways of backup leave are taken and not kept."""
    push(repository, pg_wal, f"{segment(4).name}.00000028.backup", b"START WAL LOCATION")
    assert repository.clusters() == []


def test_the_last_partial_segment_is_given_padded(repository: Repository, pg_wal: Path) -> None:
    """What a promotion leaves of the old timeline's last segment is served as far as it was written."""
    push_segments(repository, pg_wal, 4)
    last = segment(5)
    written = made_up(last, pages=3)
    recycled = written[: 3 * PAGE] + made_up(segment(2))[3 * PAGE :]
    push(repository, pg_wal, f"{last.name}.partial", recycled)
    push(
        repository, pg_wal, f"{last.name}.partial", made_up(last, pages=2)
    )  # shorter: an older one
    assert get(repository, pg_wal, last.name) == written
    for pages, given in ((2, written), (4, None)):  # a standby's backup may have more of it
        (pg_wal / last.name).write_bytes(made_up(last, pages=pages))
        assert get(repository, pg_wal, last.name) == given
    push_segments(repository, pg_wal, 5)
    push(repository, pg_wal, f"{last.name}.partial", written)  # the whole one is there
    assert get(repository, pg_wal, last.name) == made_up(last)


def test_a_gap_is_no_end(repository: Repository, pg_wal: Path) -> None:
    """A missing segment with later ones behind it is an error, also where only its beginning is there."""
    push_segments(repository, pg_wal, 4, 6)
    with pytest.raises(
        RecoveryError, match=f"{segment(5).name} is missing .* to {segment(6).name}"
    ):
        get(repository, pg_wal, segment(5).name)
    push(repository, pg_wal, f"{segment(5).name}.partial", made_up(segment(5), pages=3))
    with pytest.raises(RecoveryError, match="is missing from the archive"):
        get(repository, pg_wal, segment(5).name)
    push_segments(repository, pg_wal, 9, timeline=2)
    with pytest.raises(RecoveryError, match="which has WAL of that timeline"):
        get(repository, pg_wal, "00000002.history")


def test_what_was_put_there_by_hand_is_passed_over(
    repository: Repository, pg_wal: Path, tmp_path: Path
) -> None:
    """Copies and folders that are none of an archive keep nobody from reading it; an inventory tells of them."""
    push_segments(repository, pg_wal, 4, 5)
    log = tmp_path / "repository/main/wal/00000001/00000000"
    strays = [log / f"{segment(4).name}.zst.bak", log / "notes.zst", log.parents[1] / "old/x.zst"]
    for stray in strays:
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"x")
    archive = repository.known_wal("main")
    assert archive.timelines() == [1]
    assert [stored.segment for stored in archive.segments(1)] == [segment(4), segment(5)]
    assert archive.newest(1) == segment(5)
    assert get(repository, pg_wal, segment(6).name) is None
    told = {Path(stat.name).name for stat in take_inventory(repository, "main").unknown}
    assert told == {stray.name for stray in strays}


def test_what_the_server_has_itself_is_no_gap(repository: Repository, pg_wal: Path) -> None:
    """A backup brings WAL of its own: not in the archive, it is no gap; a file kept to be reused does not count."""
    push_segments(repository, pg_wal, 6)
    (pg_wal / segment(4).name).write_bytes(made_up(segment(4)))
    assert get(repository, pg_wal, segment(4).name) is None
    (pg_wal / segment(5).name).write_bytes(made_up(segment(2)))
    with pytest.raises(RecoveryError, match="is missing from the archive"):
        get(repository, pg_wal, segment(5).name)


def test_damage_is_no_end(repository: Repository, pg_wal: Path, tmp_path: Path) -> None:
    """A damaged segment, and one of another cluster that was copied in, are errors."""
    push_segments(repository, pg_wal, 4, 5)
    name = segment(4).name
    stored = tmp_path / f"repository/main/wal/00000001/00000000/{name}.zst"
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 0xFF
    stored.write_bytes(content)
    with pytest.raises(IntegrityError, match="is damaged"):
        get(repository, pg_wal, name)
    stored.write_bytes(stored.with_name(f"{segment(5).name}.zst").read_bytes())
    with pytest.raises(IntegrityError, match="address"):
        get(repository, pg_wal, name)
    with pytest.raises(NotFoundError, match="holds nothing of cluster 'other'"):
        get_file(repository, "other", name, pg_wal / "RECOVERYXLOG")


def test_a_segment_of_another_size_is_refused() -> None:
    """A header that tells another size than the cluster's is not the cluster's."""
    one = segment(4)
    content = made_up(WalSegment(1, 2, 2 * SIZE))
    with pytest.raises(IntegrityError, match=f"segment size {2 * SIZE}, expected {SIZE}"):
        check_segment(one, content, SYSTEM)


@pytest.fixture
def config(tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of one cluster."""
    file = tmp_path / "opskit.toml"
    file.write_text(
        f'[repository]\nurl = "{repository.url}"\n[clusters.main]\nconninfo = "host=/nowhere"\n'
    )
    monkeypatch.delenv("OPSKIT_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return file


def test_only_the_end_of_the_archive_looks_like_it(
    config: Path, repository: Repository, pg_wal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``wal get`` exits with 100 at the end, and with more than 125 for gaps, damage, wrong use and wrong settings."""
    target = str(pg_wal / "RECOVERYXLOG")
    push_segments(repository, pg_wal, 4, 6)
    assert main(["wal", "get", segment(4).name, target]) == 0
    assert main(["wal", "get", segment(7).name, target]) == 100
    assert capsys.readouterr() == ("", "")
    assert main(["wal", "get", segment(5).name, target]) == 208
    assert "is missing from the archive" in capsys.readouterr().err
    assert main(["wal", "get", "nonsense", target]) == 202
    assert main(["wal", "get", segment(4).name]) == 202
    assert main(["--config", "nowhere.toml", "wal", "get", segment(4).name, target]) == 203
    assert main(["wal", "get", segment(4).name, "/nowhere/x"]) == 202
    config.write_text(config.read_text() + '[clusters.other]\nconninfo = "host=/nowhere"\n')
    assert main(["wal", "get", segment(4).name, target]) == 202
    assert main(["wal", "get", "--cluster", "other", segment(4).name, target]) == 203
    assert main(["wal", "get", "--cluster=main", segment(4).name, target]) == 0


@pytest.mark.parametrize("verb", ["push", "get"])
def test_push_and_get_start_quickly(
    config: Path, repository: Repository, pg_wal: Path, verb: str
) -> None:
    """What PostgreSQL starts for every segment loads neither pandas nor SQLAlchemy nor Jupyter nor psycopg."""
    push_segments(repository, pg_wal, 4)
    file = pg_wal / segment(4).name
    file.write_bytes(made_up(segment(4)))
    arguments = ["wal", "push", str(file)]
    if verb == "get":
        arguments = ["wal", "get", file.name, str(pg_wal / "RECOVERYXLOG")]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from opskit.cli import main\n"
            f"assert main({arguments!r}) == 0\n"
            "print(*sorted({m.partition('.')[0] for m in sys.modules}))",
        ],
        text=True,
        capture_output=True,
        timeout=60,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    slow = {"pandas", "numpy", "sqlalchemy", "alembic", "psycopg", "ipywidgets", "IPython", "rich"}
    assert loaded & (slow | {"papermill", "nbformat", "matplotlib", "jupyter_core"}) == set()
