"""From the scheduler's failure to the message, with a real server that is away and comes back."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from opskit.alarms import receivers, run_alarms
from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from tests.servers import ServerFactory
from tests.support.backups import wait_until
from tests.support.command import PROJECT, command
from tests.support.receiver import SECRET, Webhook


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_failed_run_is_told_once_and_silence_when_the_scheduler_is_dead(
    server: ServerFactory, settings: Callable[..., Settings]
) -> None:
    """The scheduler's run fails: one alarm. It is killed, a backup is taken: one all-clear. A day later: silence."""
    file = settings(server(wal_segment_megabytes=1)).file
    assert file is not None
    there = file.read_text() + 'schedule = "0 2 * * *"\n[alarms]\nurls_file = "alarms.urls"\n'
    file.write_text(there.replace("host=", "host=/nowhere"))
    urls, log = file.with_name("alarms.urls"), file.with_name("log")
    urls.touch(mode=0o600)
    with Webhook() as webhook, log.open("wb") as output:
        urls.write_text(webhook.url)
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
        [alarm] = webhook.taken
        assert "main: last backup: failed at " in alarm["message"]
        assert "main: newest backup: there is no backup" in alarm["message"]

        file.write_text(there)
        back = load_settings(file)
        to = receivers([webhook.url])
        run_alarms(back, ["main"], to)
        assert len(webhook.taken) == 1
        main = Cluster("main", back)
        main.create_backup()
        main.catalog.close()
        for _ in range(2):
            run_alarms(back, ["main"], to)
        assert webhook.titles[1:] == ["opskit: main: all is well again"]
        run_alarms(back, ["main"], to, now=datetime.now(UTC) + timedelta(hours=27))
        assert len(webhook.taken) == 3
        assert webhook.titles[2].startswith("opskit: main: the newest backup is 1 d 3 h old, more")
    assert SECRET not in log.read_text()
