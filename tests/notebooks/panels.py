"""What tests of panels share: patience, and backups that take their time."""

import time
from collections.abc import Callable

from opskit.config import Settings, load_settings
from opskit.postgres.server import LocalServer
from opskit.widgets._panel import Panel

PATIENCE = 120.0
SLOW = {"shared_buffers": "64MB", "checkpoint_timeout": "10min"}


def slow_backups(server: LocalServer, settings: Settings) -> Settings:
    """Settings with which a backup of a server with the options `SLOW` waits minutes for its checkpoint.

    A spread checkpoint rests 0.1 s after each page (PostgreSQL's `CheckpointWriteDelay`), and here it has 2,500.
    """
    server.query("CREATE TABLE dirty (i int, t text)")
    server.query("INSERT INTO dirty SELECT i, repeat('x', 1000) FROM generate_series(1, 17500) i")
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


def is_quiet(panel: Panel) -> bool:
    """Whether no operation runs, as far as the panel knows."""
    return not any(card.is_running for card in panel.cards)


def said(panel: Panel) -> str:
    """All that the panel's cards say."""
    return "\n".join(card.message.value for card in panel.cards)
