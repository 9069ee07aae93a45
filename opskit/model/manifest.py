"""PostgreSQL's backup manifest: read, and compared with what was received.

The format is specified in the chapter "Backup Manifest Format" of the PostgreSQL manual.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from opskit.errors import ErrorKind, IntegrityError

# What the server puts into the archive but not into the manifest, and what opskit's layout leaves out or moves.
_NOT_LISTED = "pg_wal/"
_LEFT_OUT = frozenset({"standby.signal", "recovery.signal"})


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files that a base backup consists of: sizes in bytes by path below the data directory."""

    files: Mapping[str, int]


def read_manifest(content: bytes) -> Manifest:
    """Read a backup manifest and check its own checksum.

    Raises
    ------
    IntegrityError
        It is damaged, cut off, or not a manifest.
    """
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    try:
        data = json.loads(content)
        promised = data["Manifest-Checksum"]
        files = {
            item["Path"]
            if "Path" in item
            else bytes.fromhex(item["Encoded-Path"]).decode("utf-8", "surrogateescape"): int(
                item["Size"]
            )
            for item in data["Files"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"the backup manifest cannot be read: {type(error).__name__}: {error}",
            ErrorKind.TRUNCATED,
        ) from None
    if hashlib.sha256(content[:last]).hexdigest() != promised:
        raise IntegrityError("the backup manifest differs from its own checksum")
    return Manifest(files)


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
