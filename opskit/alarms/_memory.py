"""What each receiver was told, in a file: it has to be there when the catalog is not."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.errors import ErrorKind, StoreError
from opskit.model.alarms import Memory, Remembered
from opskit.model.freshness import Severity

_FORMAT = 1
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.05


class MemoryFile:
    """The memories of all receivers, by their keys, as long as `held` lasts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process that tells alarms waiting.

        Raises
        ------
        StoreError
            The folder cannot be written to, or another process has held it for a minute.
        """
        try:
            lock = os.open(f"{self.path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._not_written(error) from None
        try:
            self._take(lock)
            yield
        finally:
            os.close(lock)

    def _take(self, lock: int) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"another process has held {f'{self.path}.lock'!r} for a minute",
                        ErrorKind.STORE_FAILED,
                        "See which 'opskit alarms run' hangs, and end it.",
                        permanent=False,
                    ) from None
                time.sleep(_POLL_SECONDS)
            else:
                return

    def read(self) -> dict[str, Memory]:
        """What was told; nothing when that cannot be made out: better told twice than never."""
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            data = json.loads(self.path.read_bytes())
            if data["format"] == _FORMAT:
                return {key: _memory(told) for key, told in data["receivers"].items()}
        return {}

    def write(self, memories: Mapping[str, Memory]) -> None:
        """Keep them, whole or not at all; errors as `held`."""
        data = {
            "format": _FORMAT,
            "receivers": {
                key: {
                    cluster: {name: _data(one) for name, one in told.items()}
                    for cluster, told in memory.items()
                }
                for key, memory in memories.items()
            },
        }
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            descriptor = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(data, file, ensure_ascii=False, indent=1)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError as error:
            raise self._not_written(error) from None

    def _not_written(self, error: OSError) -> StoreError:
        return StoreError(
            f"what was told cannot be kept in {str(self.path)!r}: {(error.strerror or '').lower()}",
            ErrorKind.STORE_NOT_WRITABLE,
            "Let the account that runs opskit write there, or name another file as alarms.state in opskit.toml.",
        )


def _memory(told: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Memory:
    return {
        cluster: {
            name: Remembered(
                message=str(one["message"]),
                severity=Severity(one["severity"]),
                since=datetime.fromisoformat(one["since"]),
                told_at=one["told_at"] and datetime.fromisoformat(one["told_at"]),
            )
            for name, one in findings.items()
        }
        for cluster, findings in told.items()
    }


def _data(one: Remembered) -> dict[str, Any]:
    return {
        "message": one.message,
        "severity": str(one.severity),
        "since": one.since.isoformat(),
        "told_at": one.told_at and one.told_at.isoformat(),
    }
