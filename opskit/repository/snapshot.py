"""From the server's archives to the snapshot's members: final names, links, and files of our own.

What the archive's layout changes of a base backup, and nothing else does:

- tablespaces that are streams of their own are linked to as ``../../tablespaces/<oid>``; one in place (manual,
  allow_in_place_tablespaces) is such a stream since PostgreSQL 16, and a plain folder of the data directory before;
- ``postgresql.auto.conf`` goes to ``conf/postgresql.auto.conf.source``, as PostgreSQL would read it in ``data/``;
- ``standby.signal`` and ``recovery.signal`` are dropped: a copy starts by itself and follows nobody;
- so are links to tablespaces that were made while the backup was taken: they lead to the original's files.
"""

from collections.abc import Mapping
from datetime import datetime

from opskit.errors import ErrorKind, ServerError
from opskit.repository.blocks import HeaderReader, may_be_increment
from opskit.repository.tar import (
    BLOCK_BYTES,
    Header,
    Owner,
    as_link,
    below,
    file_header,
    folder_header,
    owner_of,
    padded,
    read_header,
)
from opskit.repository.volumes import VolumeWriter

AUTO_CONF = "postgresql.auto.conf"
AUTO_CONF_ASIDE = "postgresql.auto.conf.source"
_DROPPED = {"standby.signal", "recovery.signal"}
_LINKS = "pg_tblspc/"


def backup_folder(name: str) -> str:
    """Where a backup unpacks: ``data/backup/<name>``."""
    return f"data/backup/{name}"


class SnapshotWriter:
    """Splits the server's archives into members and writes them below ``data/backup/<name>/snapshot``.

    Parameters
    ----------
    volumes
        Takes the members.
    name
        The backup's name.
    own_files
        Contents by path below ``snapshot/``, stored before the server's first member and with its owner.
    tablespaces
        The oids of the tablespaces.
    made_at
        The time of the members of our own.
    block_bytes
        The server's block size if the backup is an increment.

    Attributes
    ----------
    files
        The sizes of the server's files as they are stored, by their paths in the manifest.
    content_bytes
        What each tablespace takes when it is restored.
    """

    def __init__(
        self,
        volumes: VolumeWriter,
        name: str,
        *,
        own_files: Mapping[str, bytes],
        tablespaces: tuple[int, ...],
        made_at: datetime,
        block_bytes: int | None = None,
    ) -> None:
        self.files: dict[str, int] = {}
        self.content_bytes: dict[int | None, int] = {}
        self._volumes = volumes
        self._folder = backup_folder(name)
        self._root = f"{self._folder}/snapshot"
        self._own_files = own_files
        self._tablespaces = frozenset(map(str, tablespaces))
        self._mtime = float(int(made_at.timestamp()))
        self._owner: Owner | None = None
        self._tablespace: int | None = None
        self._prefix = ""
        self._header = b""
        self._left = 0
        self._keep = True
        self._ended = True
        self._block_bytes = block_bytes
        self._increment: HeaderReader | None = None

    def start_archive(self, tablespace: int | None) -> None:
        """An archive begins: a tablespace's by its oid, or the data directory's."""
        self._finish_archive()
        self._tablespace = tablespace
        self._prefix = (
            f"{self._root}/data" if tablespace is None else f"{self._root}/tablespaces/{tablespace}"
        )
        self.content_bytes[tablespace] = 0
        self._ended = False

    def feed(self, data: memoryview) -> None:
        """The next bytes of the archive, of any number.

        Raises
        ------
        ServerError
            They are no tar archive.
        """
        while data:
            if self._left:
                part = data[: self._left]
                if self._keep:
                    self._volumes.write(part)
                if self._increment is not None:
                    self._read_header(self._increment, part)
                self._left -= len(part)
            elif self._ended:
                return  # padding behind the end of the archive
            else:  # a header, most often whole
                part = data[: BLOCK_BYTES - len(self._header)]
                self._header += part
                if len(self._header) == BLOCK_BYTES:
                    block, self._header = self._header, b""
                    self._start_member(read_header(block))
            data = data[len(part) :]

    def finish(self, manifest: bytes) -> None:
        """Add the backup manifest, after the last archive.

        Raises
        ------
        ServerError
            The last archive ended in the middle of a member.
        """
        self._finish_archive()
        self._add_file(f"{self._root}/data", "backup_manifest", manifest)

    def _finish_archive(self) -> None:
        if self._left or self._header or self._increment:
            raise ServerError(
                f"the server's archive for {self._prefix!r} ended in the middle of a member",
                ErrorKind.SERVER_GONE,
                "Take the backup again.",
            )

    def _start_member(self, header: Header | None) -> None:
        if header is None:
            self._ended = True
            return
        if self._increment is not None:
            raise ServerError(
                f"the server sent {next(reversed(self.files))!r}, which ends in its header",
                ErrorKind.SERVER_REFUSED,
                "Take a full backup with --full.",
            )
        if self._owner is None:
            self._owner = owner_of(header)
            self._add_own_members()
        self._left = padded(header.size)
        self._keep = True
        prefix, name = self._prefix, header.name.rstrip("/")
        if self._tablespace is None:
            if name in _DROPPED:
                self._keep = False
                return
            oid = name.removeprefix(_LINKS)
            if name.startswith(_LINKS) and oid in self._tablespaces:
                block = as_link(header, prefix, f"../../tablespaces/{oid}")
                self._volumes.begin_member(f"{prefix}/{name}", block, 0)
                return
            if name.startswith(_LINKS) and header.is_link:
                # Made since the backup began, by a record that recovery replays; its target is the original's.
                self._keep = False
                return
            if name == AUTO_CONF:
                prefix, name = f"{self._root}/conf", AUTO_CONF_ASIDE
        if not (header.is_folder or header.is_link):
            path = (
                header.name
                if self._tablespace is None
                else f"{_LINKS}{self._tablespace}/{header.name}"
            )
            self.files[path] = header.size
            if self._block_bytes is not None and may_be_increment(path):
                self._increment = HeaderReader(self._block_bytes)
            else:
                self.content_bytes[self._tablespace] += header.size
        kept_name = None if name == header.name.rstrip("/") else name
        self._volumes.begin_member(
            f"{prefix}/{name}", below(header, prefix, kept_name), header.size
        )

    def _read_header(self, reader: HeaderReader, part: memoryview) -> None:
        try:
            blocks = reader.feed(part)
            if blocks is not None and blocks.stored_bytes != next(reversed(self.files.values())):
                raise ValueError(f"it is to have {blocks.stored_bytes} bytes")
        except ValueError as error:
            name = next(reversed(self.files))
            raise ServerError(
                f"the server sent {name!r}, which cannot be read: {error}",
                ErrorKind.SERVER_REFUSED,
                "Take a full backup with --full, and report this with the server's version.",
            ) from None
        if blocks is not None:
            self._increment = None
            self.content_bytes[self._tablespace] += blocks.file_bytes
            self._volumes.note_blocks(blocks)

    def _add_own_members(self) -> None:
        """The folders and files that are not the server's, first in the archive, so that a reader meets the README."""
        self._add_folder("data/backup", self._folder.rpartition("/")[2])
        self._add_folder(self._folder, "snapshot")
        folders = {"conf"}
        for path, content in self._own_files.items():
            folder, _, name = path.rpartition("/")
            if folder in folders:
                self._add_folder(self._root, folder)
                folders.remove(folder)
            self._add_file(f"{self._root}/{folder}".rstrip("/"), name, content)
        self._add_folder(self._folder, "wal")
        self._add_folder(self._root, "data")
        self._add_folder(self._root, "tablespaces")
        for oid in sorted(self._tablespaces):
            self._add_folder(f"{self._root}/tablespaces", oid)

    def _add_folder(self, prefix: str, name: str) -> None:
        assert self._owner is not None
        block = folder_header(prefix, name, self._mtime, self._owner)
        self._volumes.begin_member(f"{prefix}/{name}", block, 0)

    def _add_file(self, prefix: str, name: str, content: bytes) -> None:
        owner = self._owner or Owner(0, 0)
        block = file_header(prefix, name, len(content), self._mtime, owner)
        self._volumes.begin_member(f"{prefix}/{name}", block, len(content))
        self._volumes.write(content)
        self._volumes.write(bytes(padded(len(content)) - len(content)))
