"""PostgreSQL's backup manifest: read, and compared with what was received.

The format is specified in the chapter "Backup Manifest Format" of the PostgreSQL manual.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opskit.errors import ErrorKind, IntegrityError

# What the server puts into the archive but not into the manifest, and what opskit's layout leaves out or moves.
_NOT_LISTED = "pg_wal/"
_LEFT_OUT = frozenset({"standby.signal", "recovery.signal"})
_OLD_LABEL = re.compile(rb'^\{ ?"Path": "backup_label\.old".*\}', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files that a base backup consists of: sizes in bytes by path below the data directory."""

    files: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """A file as a manifest lists it; `checksum` is its CRC32C in hexadecimal digits."""

    path: str
    file_bytes: int
    checksum: str


def read_manifest(content: bytes) -> Manifest:
    """Read a backup manifest and check its own checksum.

    Raises
    ------
    IntegrityError
        It is damaged, cut off, or not a manifest.
    """
    return Manifest({path: int(item["Size"]) for path, item in _read(content)[1].items()})


def restored_mark(content: bytes) -> tuple[str, str] | None:
    """When the cluster was restored from a base backup last, and which: time and checksum of the label that stays then.

    `None` of a cluster that never was.
    """
    found = _OLD_LABEL.search(content)
    if found is None:
        return None
    item = json.loads(found[0])
    return item["Last-Modified"], item.get("Checksum", "")


def file_checksums(content: bytes) -> dict[str, str]:
    """The CRC32C of each file that has one, in hexadecimal digits, by its path; errors as `read_manifest`."""
    return {
        path: item["Checksum"]
        for path, item in _read(content)[1].items()
        if item.get("Checksum-Algorithm") == "CRC32C"
    }


def with_files(content: bytes, changed: Mapping[str, "ManifestFile"]) -> bytes:
    """The manifest of an increment with whole files in the place of its ``INCREMENTAL.`` ones.

    Parameters
    ----------
    changed
        By the path that the manifest has so far. Times are kept.

    Raises
    ------
    IntegrityError
        As `read_manifest`.
    """
    data, files = _read(content)
    lines = []
    for path, item in files.items():
        if (file := changed.get(path)) is not None:
            item = {
                **_named(file.path),
                "Size": file.file_bytes,
                "Last-Modified": item["Last-Modified"],
                "Checksum-Algorithm": "CRC32C",
                "Checksum": file.checksum,
            }
        lines.append(json.dumps(item, ensure_ascii=False))
    ranges = [json.dumps(item) for item in data["WAL-Ranges"]]
    head = {k: v for k, v in data.items() if k not in ("Files", "WAL-Ranges", "Manifest-Checksum")}
    text = (
        "{ "
        + "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
        + f'"Files": [\n{_lines(lines)}],\n"WAL-Ranges": [\n{_lines(ranges)}],\n'
    ).encode()
    return text + f'"Manifest-Checksum": "{hashlib.sha256(text).hexdigest()}"}}\n'.encode()


def checksum_text(crc32c: int) -> str:
    """A CRC32C as a manifest has it: its bytes, the lowest first."""
    return crc32c.to_bytes(4, "little").hex()


def check_received(manifest: Manifest, received: Mapping[str, int]) -> None:
    """Hold the files that were received against the manifest.

    Raises
    ------
    IntegrityError
        A file is missing, has another size, or is not listed; the message names the first and counts the rest.
    """
    wrong = [
        f"{path!r} has {received[path]} bytes, the manifest says {size}"
        if path in received
        else f"{path!r} was not received"
        for path, size in manifest.files.items()
        if received.get(path) != size and path not in _LEFT_OUT
    ]
    wrong += [
        f"{path!r} is not in the manifest"
        for path in received
        if path not in manifest.files and not path.startswith(_NOT_LISTED)
    ]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise IntegrityError(
            f"the backup received differs from its manifest: {wrong[0]}{more}",
            ErrorKind.INCOMPLETE,
            "Take the backup again; if it happens again, report it with the server's log.",
        )


def _read(content: bytes) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """All that a manifest says, and its files by their paths."""
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    try:
        data = json.loads(content)
        promised = data["Manifest-Checksum"]
        files = {
            item["Path"]
            if "Path" in item
            else bytes.fromhex(item["Encoded-Path"]).decode("utf-8", "surrogateescape"): item
            for item in data["Files"]
        }
        for item in files.values():
            int(item["Size"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"the backup manifest cannot be read: {type(error).__name__}: {error}",
            ErrorKind.TRUNCATED,
        ) from None
    if hashlib.sha256(content[:last]).hexdigest() != promised:
        raise IntegrityError("the backup manifest differs from its own checksum")
    return data, files


def _named(path: str) -> dict[str, str]:
    try:
        path.encode()
    except UnicodeEncodeError:
        return {"Encoded-Path": path.encode("utf-8", "surrogateescape").hex()}
    return {"Path": path}


def _lines(items: list[str]) -> str:
    return ",\n".join(items) + "\n" if items else ""
