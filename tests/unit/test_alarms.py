"""Alarms as receivers get them, over HTTP and SMTP; and what never gets out."""

import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.cli import main as opskit
from opskit.errors import InputError
from opskit.postgres.server import free_port
from opskit.store import LocalStore
from tests.support.receiver import SECRET, MailServer, Webhook
from tests.support.repositories import made_up_backup

NOW = datetime.now(UTC)

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """A webhook that runs."""
    with Webhook() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, webhook: Webhook) -> Path:
    """A configuration whose cluster is three days without a backup, and whose alarms go to the webhook."""
    (tmp_path / "opskit.toml").write_text(
        f'[repository]\nurl = "{(tmp_path / "repository").as_uri()}"\n'
        f'[clusters.main]\nconninfo = "host={tmp_path} user=nobody"\nschedule = "0 2 * * *"\n'
        '[alarms]\nurls_file = "alarms.urls"\n'
    )
    receivers(tmp_path, webhook.url)
    made_up_backup(LocalStore(tmp_path / "repository"), NOW - timedelta(days=3), 5)
    return tmp_path


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """``opskit …``: exit code, standard output and error; nothing that is printed or kept holds the secret."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = opskit(["--debug", "--config", str(home / "opskit.toml"), *arguments])
        shown = capsys.readouterr()
        assert SECRET not in shown.out + shown.err
        return code, shown.out, shown.err

    yield command
    for file in home.iterdir():
        if file.is_file() and file.name != "alarms.urls":
            assert SECRET.encode() not in file.read_bytes(), file


def receivers(home: Path, *urls: str) -> None:
    """Name the receivers in the file."""
    file = home / "alarms.urls"
    file.touch(mode=0o600)
    file.write_text("# who is told\n\n" + "\n".join(urls) + "\n")


def test_silence_is_told_once_and_that_it_ended_once(
    run: Command, home: Path, webhook: Webhook
) -> None:
    """The message says how old and what to do; the next looks tell nothing until a backup is there."""
    code, out, _ = run("alarms", "run")
    assert code == 0
    [alarm] = webhook.taken
    assert alarm["type"] == "failure"
    assert alarm["title"] == (
        "opskit: main: the newest backup is 3 d old, more than the 1 d 2 h allowed"
    )
    assert "opskit schedule show" in alarm["message"]
    assert re.search(r"Told by opskit on \S+, 20", alarm["message"])
    assert "sent to receiver 1 (JSON)" in out
    assert run("alarms", "run")[0] == 0
    assert len(webhook.taken) == 1
    made_up_backup(LocalStore(home / "repository"), NOW - timedelta(hours=1), 6)
    for _ in range(2):
        assert run("alarms", "run", "main")[0] == 0
    assert webhook.titles[1:] == ["opskit: main: all is well again"]
    assert run("alarms", "run", "--dry-run") == (0, "", "nothing would be sent\n")
    assert webhook.taken[1]["type"] == "success"
    assert "the newest backup is 3 d old" in webhook.taken[1]["message"]
    assert stat.S_IMODE((home / "opskit.alarms.json").stat().st_mode) == 0o600


def test_what_is_not_taken_is_sent_again_to_whom_it_was_not_told(
    run: Command, home: Path, webhook: Webhook
) -> None:
    """One receiver refuses: the exit code and the message say so, the other is not told twice, nothing is lost."""
    with Webhook() as other:
        receivers(home, webhook.url, other.url)
        webhook.status = 503
        code, out, err = run("alarms", "run")
        assert code == 1
        assert "sent to receiver 2 (JSON)" in out
        assert "1 of 2 alarms were not delivered: receiver 1 (JSON)" in err
        assert "it answered 503" in err
        webhook.status = 204
        assert run("alarms", "run")[0] == 0
        assert (len(webhook.taken), len(other.taken)) == (1, 1)


def test_what_ended_before_it_could_be_told_is_told_as_ended(
    run: Command, home: Path, webhook: Webhook
) -> None:
    """A receiver that refused through all of it hears what had been wrong."""
    webhook.status = 500
    assert run("alarms", "run")[0] == 1
    made_up_backup(LocalStore(home / "repository"), NOW - timedelta(hours=1), 6)
    assert run("alarms", "run")[0] == 1
    webhook.status = 204
    assert run("alarms", "run")[0] == 0
    assert webhook.titles == ["opskit: main: all is well again"]
    assert "the newest backup is 3 d old" in webhook.taken[0]["message"]


def test_a_receiver_that_is_away_is_told_of(run: Command, home: Path) -> None:
    """By its place; nobody waits for long."""
    receivers(home, f"json://{SECRET}@127.0.0.1:{free_port()}")
    code, _, err = run("alarms", "run")
    assert code == 1
    assert "receiver 1 (JSON) did not take it: it cannot be reached" in err


def test_a_dry_run_tells_nobody_and_remembers_nothing(
    run: Command, home: Path, webhook: Webhook
) -> None:
    """It shows what would be told, also to whom has named nobody yet."""
    code, out, _ = run("alarms", "run", "--dry-run")
    assert code == 0
    assert "would send to receiver 1: opskit: main: the newest backup is 3 d old" in out
    [delivery] = json.loads(run("alarms", "run", "--dry-run", "--json")[1])["deliveries"]
    assert delivery["severity"] == "critical"
    assert webhook.taken == []
    assert not (home / "opskit.alarms.json").exists()
    receivers(home)
    assert "main: newest backup: " in run("alarms", "run", "--dry-run")[1]
    assert "no receiver" in run("alarms", "run")[2]


def test_mail_arrives(run: Command, home: Path) -> None:
    """By SMTP, with the subject and the text."""
    with MailServer() as server:
        receivers(home, server.url)
        assert run("alarms", "test")[:2] == (0, "receiver 1 (E-Mail): sent\n")
        assert run("alarms", "run")[0] == 0
    assert "Subject: opskit: a test" in server.mails[0]
    assert "the newest backup is 3 d old" in server.mails[1].replace("=\r\n", "")


def test_the_environment_names_receivers_too(
    run: Command, home: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the file, each once."""
    with Webhook() as other:
        monkeypatch.setenv("OPSKIT_ALARM_URLS", f"{other.url}\n {webhook.url}")
        code, out, _ = run("alarms", "test")
        assert (code, out.count("sent")) == (0, 2)
        assert (webhook.titles, other.titles) == (["opskit: a test"], ["opskit: a test"])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o777])
def test_a_file_that_others_may_read_is_refused(
    run: Command, home: Path, webhook: Webhook, mode: int
) -> None:
    """With its mode, and without what stands in it."""
    (home / "alarms.urls").chmod(mode)
    code, _, err = run("alarms", "test")
    assert code == InputError.exit_code
    assert f"its mode is {mode:04o}" in err
    assert "chmod 600" in err
    assert webhook.taken == []


@pytest.mark.parametrize("url", [f"nosuch://{SECRET}@x", f"{SECRET}", f"slack://{SECRET}", "json:"])
def test_a_url_that_apprise_does_not_know_is_told_by_its_place(
    run: Command, home: Path, webhook: Webhook, url: str
) -> None:
    """The others are told nevertheless."""
    receivers(home, webhook.url, url)
    code, _, err = run("alarms", "test")
    assert code == 1
    assert "receiver 2 has a URL that apprise does not know" in err
    assert webhook.titles == ["opskit: a test"]


def test_no_logger_gets_a_url(
    run: Command, home: Path, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    """Even where everything is logged, taken or refused: apprise and urllib3 would write it."""
    caplog.set_level(logging.DEBUG)
    run("alarms", "test")
    webhook.status = 500
    run("alarms", "test")
    assert SECRET not in caplog.text


def test_a_state_that_cannot_be_kept_silences_no_alarm(
    run: Command, home: Path, webhook: Webhook
) -> None:
    """It is sent, and the trouble is told; so is a state that is damaged."""
    (home / "opskit.alarms.json").write_text("{")
    assert run("alarms", "run")[0] == 0
    assert len(webhook.taken) == 1
    with (home / "opskit.toml").open("a") as file:
        file.write('state = "nowhere/state.json"\n')
    code, _, err = run("alarms", "run")
    assert code == 0
    assert "what was told cannot be kept" in err
    assert len(webhook.taken) == 2


def test_errors_are_told_without_what_looks_like_a_secret(
    run: Command, home: Path, webhook: Webhook
) -> None:
    """A report may quote anything."""
    trace = home / "reports/main/2026/11/.20261122T020000Z-local_restore.run"
    trace.mkdir(parents=True)
    order = {"runbook": "local_restore", "cluster": "main", "actor": "anna"}
    order |= {"host": os.uname().nodename, "started_at": NOW.isoformat()}
    (trace / "order.json").write_text(json.dumps(order))
    reason = "cannot open postgresql://u:hunter22@h/db"
    (trace / "lock").write_text(
        json.dumps({"interruption": {"outcome": "failed", "reason": reason}})
    )
    assert run("alarms", "run")[0] == 0
    [message] = webhook.taken
    assert "cannot open postgresql://u:***@h/db" in message["message"]
    assert "hunter22" not in json.dumps(message)
