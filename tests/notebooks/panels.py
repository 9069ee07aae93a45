"""What tests of panels share: patience, and backups that take their time."""

import time
from collections.abc import Callable

from opskit.config import Settings, load_settings
from opskit.postgres.server import LocalServer

PATIENCE = 120.0
SLOW = {"checkpoint_timeout": "30s"}  # the least there is; a spread checkpoint takes 0.9 of it


def slow_backups(server: LocalServer, settings: Settings) -> Settings:
    """Settings with which a backup of a server with the options `SLOW` waits some 25 seconds for its checkpoint."""
    server.query("CREATE TABLE dirty (i int, t text)")
    server.query("INSERT INTO dirty SELECT i, repeat('x', 1000) FROM generate_series(1, 9000) i")
    assert settings.file is not None
    written = settings.file.read_text(encoding="utf-8")  # the cluster's table is the last
    settings.file.write_text(f'{written}checkpoint = "spread"\n', encoding="utf-8")
    return load_settings(settings.file)


def wait_until(holds: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait until `holds`, in seconds at most `patience`."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"waited {patience:.0f} s in vain until {what}"
        time.sleep(0.05)
