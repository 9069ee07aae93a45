"""Where the demo's server has its files, and the record of it there.

Knows what a place must be like for a server to work in it; starts none.
"""

import hashlib
import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import platformdirs

from opskit.errors import ConflictError, ErrorKind, ServerError
from opskit.postgres.account import Account, make_directory

_FAR = Path("/var/lib/opskit")  # for root


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """``demo.json`` in the server directory: marks it as a demo's, and says whether its data is complete."""

    sockets: Path
    complete: bool

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """The record in the server directory `home`; `None` when that is not a demo's."""
        try:
            data = json.loads((home / "demo.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(sockets=Path(data["sockets"]), complete=data["complete"])

    def write(self, home: Path) -> None:
        """Keep the record in `home`, replacing what is there."""
        data = {"format": 1, "sockets": str(self.sockets), "complete": self.complete}
        write_whole(home / "demo.json", json.dumps(data) + "\n")


def write_whole(file: Path, text: str) -> None:
    """Write a file so that it is there with all of its content, or not at all."""
    new = file.with_name(f"{file.name}.new")
    with new.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(file)


def _homes(directory: Path) -> tuple[Path, Path]:
    """Where the server's files may be: below the demo directory, or where every server can work."""
    root = _FAR if os.geteuid() == 0 else platformdirs.user_data_path("opskit")
    return directory / "server", root / f"demo-{_fingerprint(directory)}"


def existing(directory: Path) -> tuple[Path, Record | None]:
    """The server directory of a demo directory and its record; `None` when there is no demo."""
    near, far = _homes(directory)
    for home in (near, far):
        record = Record.read(home)
        if record is not None:
            return home, record
    return near, None


def new_home(directory: Path, account: Account | None) -> Path:
    """A new server directory, which the account can reach.

    PostgreSQL refuses a tablespace's path with a quote in it, so that such a demo directory cannot hold the server.
    """
    near, far = _homes(directory)
    fits = "'" not in str(near) and str(near).isprintable()
    home = near if fits and (account is None or account.can_reach(directory)) else far
    if home.is_dir() and any(home.iterdir()):
        raise ConflictError(
            f"{str(home)!r} is not empty, and not of a demo",
            ErrorKind.TARGET_NOT_EMPTY,
            "Run the demo in another directory.",
        )
    for made in (home.parent, home) if home == far else (home,):
        made.mkdir(parents=True, exist_ok=True)
        if account is not None:
            made.chmod(0o755)  # whatever root's umask is, the account has to pass
    if account is not None and not account.can_reach(home):
        raise ServerError(
            f"{account.name!r}, who runs servers for root, cannot reach {str(home)!r}",
            ErrorKind.SERVER_NOT_STARTED,
            "Run the demo in a directory that every user may enter, or as an ordinary user.",
        )
    return home


def new_record(home: Path) -> Record:
    """Mark `home` as the server directory of a demo that has no data yet."""
    # A name of its own: the server of a demo that was removed while it ran may still be there for a minute.
    record = Record(sockets=Path("/tmp") / f"opskit-demo-{secrets.token_hex(4)}", complete=False)
    record.write(home)
    return record


def own_sockets(directory: Path, account: Account | None) -> None:
    """Make the socket directory, which a restart of the machine removes. One that somebody else made is not used.

    Raises
    ------
    ConflictError
        It is there and not ours alone.
    """
    make_directory(directory, account)
    found = directory.lstat()
    owner = account.uid if account else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise ConflictError(
            f"{str(directory)!r} is there already and does not belong to the demo alone",
            hint="Remove it, and try again.",
        )


def _fingerprint(directory: Path) -> str:
    return hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:10]
