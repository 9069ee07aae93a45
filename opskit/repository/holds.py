"""Holds: backups that no policy may remove. One small object each, beside the backups, so that every host sees them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from opskit.errors import ConflictError, ErrorKind, IntegrityError, NotFoundError
from opskit.model.backup import is_backup_name
from opskit.model.retention import Hold
from opskit.store import Store

FORMAT = 1


class Holds:
    """The holds of one cluster."""

    def __init__(self, store: Store, cluster: str) -> None:
        self._store = store
        self._folder = f"{cluster}/holds"

    def all(self) -> list[Hold]:
        """Every hold, those that have ended too, by the names of their backups.

        Raises
        ------
        IntegrityError
            One cannot be read; what it holds is not known, so nobody may go on as if there were none.
        """
        names = [stat.name for stat in self._store.list(self._folder).objects]
        return [hold for name in names if (hold := self._read(name)) is not None]

    def place(self, hold: Hold, *, replace: bool = False) -> None:
        """Keep a hold, durably.

        Raises
        ------
        ConflictError
            The backup is held already, and `replace` is false.
        """
        data = {
            "format": FORMAT,
            "backup": hold.backup,
            "by": hold.by,
            "reason": hold.reason,
            "placed_at": _text(hold.placed_at),
            "until": None if hold.until is None else _text(hold.until),
        }
        content = (json.dumps(data, ensure_ascii=False, indent=2) + "\n").encode()
        try:
            self._store.put(self._name(hold.backup), [content], replace=replace)
        except ConflictError:
            raise ConflictError(
                f"backup {hold.backup!r} is held already",
                ErrorKind.OBJECT_EXISTS,
                "Release it first, to hold it for another reason or another time.",
            ) from None

    def of(self, backup: str) -> Hold | None:
        """The hold on one backup, ended or not; errors as `all`."""
        return self._read(self._name(backup))

    def release(self, backup: str) -> None:
        """End a hold.

        Raises
        ------
        NotFoundError
            The backup is not held.
        """
        name = self._name(backup)
        try:
            self._store.stat(name)
        except NotFoundError:
            raise NotFoundError(
                f"backup {backup!r} is not held",
                ErrorKind.BACKUP_NOT_FOUND,
                "List the holds with 'opskit expire CLUSTER --dry-run'.",
            ) from None
        self._store.delete(name)

    def forget(self, backup: str) -> None:
        """Remove what is left of a hold on a backup that is gone."""
        self._store.delete(self._name(backup))

    def _read(self, name: str) -> Hold | None:
        try:
            return _hold(json.loads(b"".join(self._store.get(name))))
        except NotFoundError:  # released since it was listed
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"the hold {name!r} cannot be read: {type(error).__name__}: {error}",
                hint="Put back what was there, or remove the object and place the hold again.",
            ) from None

    def _name(self, backup: str) -> str:
        return f"{self._folder}/{backup}.json"


def is_hold_name(name: str) -> bool:
    """Whether an object below ``holds/`` has the name of one."""
    return name.endswith(".json") and is_backup_name(name.removesuffix(".json"))


def _hold(data: Mapping[str, Any]) -> Hold:
    if data["format"] != FORMAT:
        raise ValueError(f"it is of format {data['format']!r}, this opskit reads {FORMAT}")
    until = data["until"]
    return Hold(
        backup=data["backup"],
        by=data["by"],
        reason=data["reason"],
        placed_at=datetime.fromisoformat(data["placed_at"]),
        until=None if until is None else datetime.fromisoformat(until),
    )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
