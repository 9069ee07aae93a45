"""Volumes give back what went into them, whatever the sizes of members, frames, volumes and pieces."""

import hashlib
import io
import os
import random
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import ErrorKind, IntegrityError, StoreError
from opskit.repository import Archive, Volume
from opskit.repository.extract import Placement, Source, extract
from opskit.repository.index import read_index, write_index
from opskit.repository.merge import whole
from opskit.repository.snapshot import SnapshotWriter
from opskit.repository.tar import BLOCK_BYTES, END_OF_ARCHIVE, Owner, file_header, padded
from opskit.repository.volumes import VolumeWriter
from opskit.store import MemoryStore
from tests.property import repeatable
from tests.support.faulty import FaultyStore, Moment

MADE_AT = datetime(2026, 11, 22, 14, 3, 5, tzinfo=UTC)
NAME = "20261122T140305Z"
sizes = st.one_of(st.just(0), st.integers(0, 40), st.integers(400, 1200), st.integers(0, 20_000))


@dataclass(frozen=True)
class Shape:
    """The sizes that a writer cuts by."""

    frame_bytes: int
    volume_bytes: int
    threads: int


shapes = st.builds(
    Shape,
    st.sampled_from((512, 1024, 4096, 10_240)),
    st.sampled_from((1, 512, 1024, 5000, 20_000)),
    st.sampled_from((1, 2, 3)),
)


def content_of(number: int, size: int) -> bytes:
    """Content of a member: half of it compressible."""
    return (
        random.Random(number)
        .randbytes(size // 2)
        .ljust(size, b"opskit"[number % 6 : number % 6 + 1])
    )


def written(store: MemoryStore, contents: list[bytes], shape: Shape) -> tuple[bytes, list[Volume]]:
    """Write members below ``b/``; the tar that they are, and the volumes."""
    writer = VolumeWriter(
        lambda name, chunks: store.put(f"b/{name}", chunks),
        threads=shape.threads,
        frame_bytes=shape.frame_bytes,
        volume_bytes=shape.volume_bytes,
    )
    tar = bytearray()
    for number, content in enumerate(contents):
        header = file_header("folder", f"f{number}", len(content), 0.0, Owner(os.getuid(), 0))
        padding = bytes(padded(len(content)) - len(content))
        writer.begin_member(f"folder/f{number}", header, len(content))
        for start in range(0, len(content), 777):
            writer.write(memoryview(content)[start : start + 777])
        writer.write(padding)
        tar += header + content + padding
    return bytes(tar), writer.finish()


def stored(store: MemoryStore, volume: Volume) -> bytes:
    """A volume's bytes."""
    return b"".join(store.get(f"b/{volume.name}"))


def decompressed(content: bytes) -> bytes:
    """The content of zstd frames, one after the other."""
    reader = zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True)
    with reader:
        return bytes(reader.read())


@repeatable
@given(st.lists(sizes, min_size=1, max_size=12), shapes)
def test_volumes_hold_the_tar(member_sizes: list[int], shape: Shape) -> None:
    """Concatenated and decompressed they are the tar; the index tells where in it everything is; nothing is split."""
    store = MemoryStore()
    contents = [content_of(n, size) for n, size in enumerate(member_sizes)]
    tar, volumes = written(store, contents, shape)
    assert decompressed(b"".join(stored(store, v) for v in volumes)) == tar
    assert read_index(write_index(volumes)) == volumes
    assert [v.name for v in volumes] == [
        f"snapshot-{n:05}.tar.zst" for n in range(1, len(volumes) + 1)
    ]
    members = [m for v in volumes for m in v.members]
    assert [(m.name, m.size) for m in members] == [
        (f"folder/f{n}", s) for n, s in enumerate(member_sizes)
    ]
    for volume in volumes:
        content = stored(store, volume)
        assert (volume.stored_bytes, sum(volume.frames)) == (len(content), len(content))
        assert volume.sha256 == hashlib.sha256(content).hexdigest()
        part = decompressed(content)
        assert volume.tar_bytes == len(part)
        assert part in tar
        last = volume.members[-1]
        assert last.offset < max(shape.volume_bytes, 1), "it was to be cut before its last member"
        assert last.offset + BLOCK_BYTES + padded(last.size) == len(part), "a member is cut"
        for member in volume.members:
            header = tarfile.TarInfo.frombuf(part[member.offset :][:BLOCK_BYTES], "utf-8", "strict")
            assert (header.name, header.size) == (member.name, member.size)
        position = 0
        for size in volume.frames:  # each of them stands alone, and tells its size
            frame = content[position : position + size]
            assert 0 < zstandard.frame_content_size(frame) <= shape.frame_bytes
            assert len(zstandard.ZstdDecompressor().decompress(frame)) <= shape.frame_bytes
            position += size


def sources(store: MemoryStore, volumes: list[Volume]) -> list[Source]:
    """All that volumes hold."""
    return [
        Source(selection, partial(store.get, f"b/{volume.name}", 0, volume.stored_bytes))
        for selection, volume in zip(whole(volumes), volumes, strict=True)
    ]


@repeatable
@given(st.lists(sizes, min_size=1, max_size=12), shapes, st.integers(1, 3))
def test_extracted_files_are_what_was_written(
    member_sizes: list[int], shape: Shape, threads: int
) -> None:
    """Every file comes back with its content, and progress adds up to the tar."""
    store = MemoryStore()
    contents = [content_of(n, size) for n, size in enumerate(member_sizes)]
    tar, volumes = written(store, contents, shape)
    advanced: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        extract(
            sources(store, volumes),
            Placement(path=lambda m: f"{name}/{m}", link=lambda m, target: target, owner=None),
            advance=advanced.append,
            check=lambda: None,
            threads=threads,
        )
        found = {p.name: p.read_bytes() for p in Path(name, "folder").iterdir()}
        assert found == {f"f{n}": content for n, content in enumerate(contents)}
        assert {p.stat().st_mode & 0o777 for p in Path(name, "folder").iterdir()} == {0o600}
    assert sum(advanced) == len(tar)


@repeatable
@given(
    st.lists(sizes, min_size=1, max_size=6), shapes, st.integers(0, 2**31), st.data()
)  # fmt: skip
def test_no_damage_is_extracted_in_silence(
    member_sizes: list[int], shape: Shape, position: int, data: st.DataObject
) -> None:
    """A flipped bit anywhere, a cut and an addition are integrity errors."""
    store = MemoryStore()
    _, volumes = written(store, [content_of(n, s) for n, s in enumerate(member_sizes)], shape)
    victim = data.draw(st.sampled_from(volumes))
    content = bytearray(stored(store, victim))
    damage = data.draw(st.sampled_from(("flip", "cut", "empty")))
    if damage == "flip":
        content[position % len(content)] ^= 1 << position % 8
    elif damage == "cut":
        del content[position % len(content) :]
    else:
        content.clear()
    store.put(f"b/{victim.name}", [bytes(content)], replace=True)
    with tempfile.TemporaryDirectory() as name, pytest.raises(IntegrityError):
        extract(
            sources(store, volumes),
            Placement(path=lambda m: f"{name}/{m}", link=lambda m, target: target, owner=None),
            advance=lambda count: None,
            check=lambda: None,
        )
    with pytest.raises(IntegrityError):
        list(Archive(store, "b", volumes).read())


@repeatable
@given(st.lists(sizes, min_size=1, max_size=8), shapes, st.data())
def test_any_range_of_an_archive(
    member_sizes: list[int], shape: Shape, data: st.DataObject
) -> None:
    """A range is the slice of the whole, whose length is known before, and whose tar is ended."""
    store = MemoryStore()
    tar, volumes = written(store, [content_of(n, s) for n, s in enumerate(member_sizes)], shape)
    archive = Archive(store, "b", volumes)
    whole = b"".join(bytes(piece) for piece in archive.read())
    assert len(whole) == archive.length
    assert decompressed(whole) == tar + END_OF_ARCHIVE
    for _ in range(10):
        start = data.draw(st.integers(0, len(whole) + 3))
        stop = data.draw(st.one_of(st.none(), st.integers(0, len(whole) + 3)))
        assert b"".join(bytes(p) for p in archive.read(start, stop)) == whole[start:stop]
    for offset, pieces in archive.parts():
        part = b"".join(bytes(piece) for piece in pieces)
        assert whole[offset : offset + len(part)] == part


def server_archive(member_sizes: list[int]) -> bytes:
    """A data directory as the server sends it: folders, files, a tablespace's link, and what is left out or moved."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("base", "pg_tblspc"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            tar.addfile(info)
        for oid, target in (("16384", "/srv/slow"), ("16999", "/srv/made/meanwhile")):
            link = tarfile.TarInfo(f"pg_tblspc/{oid}")
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        names = ["standby.signal", "postgresql.auto.conf", *(f"base/{n}" for n in range(20))]
        for number, (name, size) in enumerate(zip(names, member_sizes, strict=False)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = size, 0o600
            tar.addfile(info, io.BytesIO(content_of(number, size)))
    return buffer.getvalue()


def snapshot_of(
    pieces: Iterator[bytes], shape: Shape
) -> tuple[bytes, list[Volume], SnapshotWriter]:
    """Feed a server's archive in pieces; the archive that can be downloaded, its volumes, and the writer."""
    store = MemoryStore()
    writer = VolumeWriter(
        lambda name, chunks: store.put(f"b/{name}", chunks),
        threads=shape.threads,
        frame_bytes=shape.frame_bytes,
        volume_bytes=shape.volume_bytes,
    )
    snapshot = SnapshotWriter(
        writer, NAME, own_files={"README": b"read me", "conf/postgresql.conf": b"#"},
        tablespaces=(16384,), made_at=MADE_AT,
    )  # fmt: skip
    snapshot.start_archive(None)
    for piece in pieces:
        snapshot.feed(memoryview(piece))
    snapshot.finish(b"{}\n")
    volumes = writer.finish()
    archive = b"".join(bytes(p) for p in Archive(store, "b", volumes).read())
    return archive, volumes, snapshot


@repeatable
@given(st.lists(sizes, max_size=8), shapes, st.data())
def test_the_pieces_of_a_stream_do_not_matter(
    member_sizes: list[int], shape: Shape, data: st.DataObject
) -> None:
    """A stream in pieces of any size gives the same volumes as in one, and an archive that ``tarfile`` reads."""
    stream = server_archive(member_sizes)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = (stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True))
    archive, volumes, snapshot = snapshot_of(pieces, shape)
    other, same, in_one = snapshot_of(iter([stream]), shape)
    assert (archive, volumes) == (other, same)
    assert (snapshot.files, snapshot.content_bytes) == (in_one.files, in_one.content_bytes)

    with tarfile.open(fileobj=io.BytesIO(decompressed(archive))) as tar:
        members = {m.name: m for m in tar}
        listed = [m.name for v in volumes for m in v.members]
        assert list(members) == listed
        assert len(set(listed)) == len(listed), "a name is there twice"
        root = f"data/backup/{NAME}/snapshot"
        assert members[f"{root}/data/pg_tblspc/16384"].linkname == "../../tablespaces/16384"
        assert f"{root}/data/pg_tblspc/16999" not in members
        assert f"{root}/data/standby.signal" not in members
        assert f"{root}/data/postgresql.auto.conf" not in members
        assert (f"{root}/conf/postgresql.auto.conf.source" in members) == (len(member_sizes) > 1)
        for number, size in enumerate(member_sizes[2:], 2):
            file = tar.extractfile(members[f"{root}/data/base/{number - 2}"])
            assert file is not None and file.read() == content_of(number, size)


def test_a_slow_store_bounds_what_is_held(seed: random.Random) -> None:
    """A writer takes no more frames than it has buffers for, however slowly volumes are put."""
    taken = bytearray()

    def put(name: str, chunks: Iterator[bytes]) -> int:
        for chunk in chunks:
            taken.extend(chunk)
        return len(taken)

    writer = VolumeWriter(
        lambda n, c: put(n, iter(c)), threads=2, frame_bytes=1000, volume_bytes=10**9
    )
    content = seed.randbytes(1_000_000)
    writer.begin_member("f", bytes(512), len(content))
    writer.write(content)
    writer.finish()
    assert decompressed(bytes(taken)) == bytes(512) + content


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("at", [1, 2, 3, 7])
def test_a_put_that_fails(at: int, moment: Moment, seed: random.Random) -> None:
    """Its own error comes out of the writer, which neither hangs nor stores what it gave up."""
    store = FaultyStore(MemoryStore(), at=at, moment=moment)
    writer = VolumeWriter(
        lambda name, chunks: store.put(f"b/{name}", chunks),
        threads=2, frame_bytes=512, volume_bytes=5000,
    )  # fmt: skip
    with pytest.raises(StoreError, match="injected") as raised:
        for number in range(60):
            writer.begin_member(f"f{number}", bytes(512), 1024)
            writer.write(seed.randbytes(1024))
        writer.finish()
    assert raised.value.kind is ErrorKind.STORE_FAILED
    begun = writer.abort()
    assert store.struck == 1
    assert {s.name for s in store.list("b").objects} <= {f"b/{name}" for name in begun}


def test_a_writer_that_is_aborted(seed: random.Random) -> None:
    """An abort in the middle of a volume returns at once, and that volume is not stored."""
    store = MemoryStore()
    writer = VolumeWriter(lambda name, chunks: store.put(f"b/{name}", chunks), frame_bytes=512)
    writer.begin_member("f", bytes(512), 10_000)
    writer.write(seed.randbytes(5000))
    writer.abort()
    assert store.list("b").objects == ()
