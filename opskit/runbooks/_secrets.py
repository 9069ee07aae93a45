"""The secrets that a run could tell: those of its environment, and those in libpq's own files."""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from opskit.model.secrets import (
    Scrubber,
    known_secrets,
    passwords_in_pgpass,
    passwords_in_services,
)


def run_scrubber(environment: Mapping[str, str] = os.environ) -> Scrubber:
    """What takes the secrets of this process and of libpq's password and service files out of a report."""
    home = Path(environment.get("HOME") or "/nonexistent")
    pgpass = Path(environment.get("PGPASSFILE") or home / ".pgpass")
    services = [Path(environment.get("PGSERVICEFILE") or home / ".pg_service.conf")]
    if environment.get("PGSYSCONFDIR"):
        services.append(Path(environment["PGSYSCONFDIR"]) / "pg_service.conf")
    known = known_secrets(environment) | _read(pgpass, passwords_in_pgpass)
    for service in services:
        known |= _read(service, passwords_in_services)
    return Scrubber(known)


def _read(path: Path, passwords: Callable[[str], frozenset[str]]) -> frozenset[str]:
    with contextlib.suppress(OSError):
        return passwords(path.read_text(encoding="utf-8", errors="replace"))
    return frozenset()
