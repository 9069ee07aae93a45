"""From a failure to the message, with a real server that is away and comes back."""

import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.alarms import receivers, run_alarms
from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from opskit.errors import ServerError
from tests.servers import ServerFactory
from tests.support.backups import wait_until
from tests.support.command import PROJECT, command
from tests.support.receiver import SECRET, Webhook

pytestmark = pytest.mark.parametrize("programs", [18], indirect=True)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """A webhook that runs."""
    with Webhook() as running:
        yield running


@pytest.fixture
def file(server: ServerFactory, settings: Callable[..., Settings], webhook: Webhook) -> Path:
    """A configuration with a daily schedule and the webhook as receiver; its server cannot be reached yet."""
    file = settings(server(wal_segment_megabytes=1)).file
    assert file is not None
    urls = file.with_name("alarms.urls")
    urls.touch(mode=0o600)
    urls.write_text(webhook.url)
    more = 'schedule = "0 2 * * *"\n[alarms]\nurls_file = "alarms.urls"\n'
    file.write_text(file.read_text().replace("host=", "host=/nowhere") + more)
    return file


def look(file: Path, webhook: Webhook, later: timedelta = timedelta(0)) -> None:
    """Look for alarms, by a clock that is ahead by so much."""
    done = run_alarms(
        load_settings(file), ["main"], receivers([webhook.url]), now=datetime.now(UTC) + later
    )
    assert not done.undelivered


def come_back(file: Path) -> Cluster:
    """Let the server be reached."""
    file.write_text(file.read_text().replace("/nowhere", ""))
    return Cluster("main", load_settings(file))


def assert_well_and_then_silent(file: Path, webhook: Webhook) -> None:
    """A backup is taken: one all-clear. Nothing comes for more than a day: silence is told."""
    main = come_back(file)
    main.create_backup()
    main.catalog.close()
    look(file, webhook)
    look(file, webhook)
    assert webhook.titles[1:] == ["opskit: main: all is well again"]
    look(file, webhook, timedelta(hours=27))
    look(file, webhook, timedelta(hours=28))
    assert len(webhook.taken) == 3
    assert webhook.titles[2].startswith("opskit: main: the newest backup is 1 d 3 h old, more")


def test_a_failed_backup_is_told_once_and_so_is_its_end(file: Path, webhook: Webhook) -> None:
    """However often it fails and is looked at."""
    main = Cluster("main", load_settings(file))
    for _ in range(2):
        with pytest.raises(ServerError):
            main.create_backup()
        look(file, webhook)
    main.catalog.close()
    [alarm] = webhook.taken
    assert "WARNING main: last backup: failed at " in alarm["message"]
    assert "CRITICAL main: newest backup: there is no backup" in alarm["message"]
    assert_well_and_then_silent(file, webhook)


@pytest.mark.sweep
def test_the_scheduler_tells_and_when_it_is_dead_another_look_does(
    file: Path, webhook: Webhook
) -> None:
    """Its run fails: one alarm, without waiting for the next look. It is killed, and silence is told all the same."""
    log = file.with_name("log")
    with log.open("wb") as output:
        scheduler = subprocess.Popen(
            command(load_settings(file), "schedule", "run"),
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: bool(webhook.taken), "nobody was told", seconds=60)
    finally:
        scheduler.kill()
        scheduler.wait()
    look(file, webhook)
    [alarm] = webhook.taken
    assert "WARNING main: last backup: failed at " in alarm["message"]
    assert_well_and_then_silent(file, webhook)
    assert SECRET not in log.read_text()
