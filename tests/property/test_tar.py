"""Tar headers hold for every name and size that a server may send, as Python's own ``tarfile`` reads them."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import ServerError
from opskit.repository.tar import (
    BLOCK_BYTES,
    END_OF_ARCHIVE,
    Owner,
    as_link,
    below,
    file_header,
    folder_header,
    owner_of,
    padded,
    read_header,
)
from tests.property import repeatable

names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=99
).filter(lambda name: len(name.encode()) <= 99 and name not in (".", ".."))
prefixes = st.lists(names, min_size=1, max_size=4).map("/".join).filter(
    lambda prefix: len(prefix.encode()) <= 155
)  # fmt: skip
sizes = st.one_of(st.integers(0, 2000), st.integers(0, 8**11 - 1), st.integers(8**11, 2**40))
owners = st.builds(Owner, st.integers(0, 2**21 - 1), st.integers(0, 2**21 - 1))


def reads(block: bytes) -> tarfile.TarInfo:
    """The member that Python's own reader sees in a header block."""
    assert len(block) == BLOCK_BYTES
    return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")


def server_header(name: str, size: int, kind: bytes = tarfile.REGTYPE, mode: int = 0o600) -> bytes:
    """A header as a server sends it."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode, info.uid, info.gid, info.mtime = size, kind, mode, 26, 27, 1e9
    info.uname = info.gname = "postgres"
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


@repeatable
@given(names, sizes, st.integers(0, 0o777))
def test_a_server_s_header_is_read(name: str, size: int, mode: int) -> None:
    """Name, size and mode are the server's, sizes beyond 8 GiB too."""
    header = read_header(server_header(name, size, mode=mode))
    assert header is not None
    assert (header.name, header.size, header.mode) == (name, size, mode)
    assert not header.is_folder and not header.is_link
    assert owner_of(header) == Owner(26, 27)


@repeatable
@given(names, prefixes, sizes)
def test_a_member_keeps_all_but_its_place(name: str, prefix: str, size: int) -> None:
    """Below a prefix a header is valid, and says what it said before but for the name."""
    header = read_header(server_header(name, size))
    assert header is not None
    moved = reads(below(header, prefix))
    assert moved.name == f"{prefix}/{name}"
    assert (moved.size, moved.mode, moved.uid, moved.gid, moved.mtime, moved.uname) == (
        size,
        0o600,
        26,
        27,
        1e9,
        "postgres",
    )
    renamed = reads(below(header, prefix, "other"))
    assert (renamed.name, renamed.size) == (f"{prefix}/other", size)


@repeatable
@given(names, prefixes, names, owners, st.integers(0, 2**33 - 1))
def test_members_of_our_own(name: str, prefix: str, link: str, owner: Owner, mtime: int) -> None:
    """Files, folders and links of our own are what they are called, of the given owner and time."""
    file = reads(file_header(prefix, name, 12_345, float(mtime), owner))
    assert (file.name, file.size, file.mode) == (f"{prefix}/{name}", 12_345, 0o600)
    assert (file.isreg(), file.uid, file.gid, file.mtime) == (True, owner.uid, owner.gid, mtime)
    folder = reads(folder_header(prefix, name, float(mtime), owner))
    assert (folder.name.rstrip("/"), folder.isdir()) == (f"{prefix}/{name}", True)
    assert (folder.mode, folder.uid, folder.gid) == (0o700, owner.uid, owner.gid)
    theirs = read_header(server_header(name, 0, tarfile.SYMTYPE))
    assert theirs is not None and theirs.is_link and theirs.size == 0
    made = reads(as_link(theirs, prefix, link))
    assert (made.name, made.issym(), made.linkname) == (f"{prefix}/{name}", True, link)


@repeatable
@given(st.binary(min_size=1, max_size=99).filter(lambda b: not {0, 47} & set(b)))
def test_names_that_are_no_text(raw: bytes) -> None:
    """A name that is not UTF-8 keeps its bytes on the way through."""
    name = raw.decode("utf-8", "surrogateescape")
    header = read_header(server_header(name, 1))
    assert header is not None and header.name == name
    assert below(header, "a/b")[:100].rstrip(b"\0") == raw


@repeatable
@given(st.lists(st.tuples(names, st.binary(max_size=3000)), max_size=8), prefixes)
def test_an_archive_made_of_them(members: list[tuple[str, bytes]], prefix: str) -> None:
    """Headers, contents, padding and the end are an archive that ``tarfile`` reads whole."""
    tar = b""
    for name, content in members:
        tar += file_header(prefix, name, len(content), 0.0, Owner(1, 1))
        tar += content + bytes(padded(len(content)) - len(content))
    with tarfile.open(fileobj=io.BytesIO(tar + END_OF_ARCHIVE)) as archive:
        read = [(m.name, archive.extractfile(m)) for m in archive]
        assert [n for n, _ in read] == [f"{prefix}/{name}" for name, _ in members]
    assert len(tar) % BLOCK_BYTES == 0


@repeatable
@given(st.integers(0, 511), st.integers(1, 255))
def test_a_damaged_header_is_noticed(position: int, change: int) -> None:
    """Any changed byte but in the checksum's own padding is an error, never another member."""
    block = bytearray(server_header("base/1/2", 4096))
    block[position] ^= change
    try:
        header = read_header(bytes(block))
    except ServerError:
        return
    assert header is not None
    assert 148 <= position < 156, "only the checksum's own field may be written in several ways"
    assert (header.name, header.size) == ("base/1/2", 4096)


@pytest.mark.parametrize(("name", "prefix"), [("n" * 101, "p"), ("n", "p" * 156), ("ä" * 51, "p")])
def test_names_that_do_not_fit(name: str, prefix: str) -> None:
    """A name that is too long for its field is refused, never cut."""
    with pytest.raises(ValueError, match="longer than"):
        file_header(prefix, name, 0, 0.0, Owner(0, 0))


def test_the_end_of_an_archive() -> None:
    """A zero block is no member."""
    assert read_header(bytes(BLOCK_BYTES)) is None
