"""``opskit audit``: the log shown and exported, verified here and from files alone, and the key that signs it."""

import json
import shutil
import stat
from pathlib import Path

import pytest

from opskit.cli import main
from opskit.config import load_settings
from opskit.errors import ErrorKind, InputError
from opskit.evidence.log import open_catalog
from opskit.model.operation import OperationKind, OperationStatus
from tests.support.trails import write_report
from tests.unit.test_audit_trail import run

CONFIGURATION = """
[repository]
url = "file:///./repository"
[audit]
key = "audit.key"
[clusters.main]
conninfo = "service=nowhere"
[clusters.other]
conninfo = "service=nowhere"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a configuration that names a key, which is not there yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPSKIT_CONFIG", raising=False)
    (tmp_path / "opskit.toml").write_text(CONFIGURATION)
    return tmp_path


@pytest.fixture
def trail(place: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The same with a key, an operation of each cluster, and a report."""
    assert main(["audit", "init-key"]) == 0
    settings = load_settings()
    catalog = open_catalog(settings)
    for cluster in ("main", "other"):
        row = catalog.start(
            kind=OperationKind.BACKUP, cluster=cluster, parameters={}, actor="operator"
        )
        catalog.finish(row.id, OperationStatus.COMPLETE, backup="20261122T140305Z")
    catalog.close()
    run(settings)
    capsys.readouterr()
    return place


def test_a_key_is_made_and_its_secret_not_shown(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says what to do with the pair; a second time it refuses."""
    assert main(["audit", "init-key"]) == 0
    told = capsys.readouterr()
    assert f"private key  {place / 'audit.key'}" in told.out
    assert "[audit]" in told.out and "--key audit.pub" in told.out
    assert stat.S_IMODE((place / "audit.key").stat().st_mode) == 0o600
    secret = (place / "audit.key").read_text()
    assert secret.splitlines()[1] not in told.out + told.err
    assert main(["audit", "init-key"]) == 4
    assert "already" in capsys.readouterr().err
    assert (place / "audit.key").read_text() == secret
    (place / "opskit.toml").unlink()
    assert main(["audit", "init-key", "keys.pem"]) == 0  # needs no configuration
    assert (place / "keys.pub").is_file()


def test_the_log_is_listed(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Newest first, for people and programs, of all clusters or one."""
    assert main(["audit", "log"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines if line and line[0].isdigit()] == ["3", "2", "1"]
    assert main(["audit", "log", "main", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["number"], row["what"]) for row in rows] == [(3, "small"), (1, "backup")]
    assert rows[0]["report"]["path"] == "main/2026/11/20261122T140305Z-small.json"
    assert rows[0]["jupyter_user"] == "bob"
    assert main(["audit", "log", "mian"]) == 3


def test_what_nobody_touched_passes(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and the head to note elsewhere, which is accepted."""
    assert main(["audit", "verify"]) == 0
    told = capsys.readouterr().out
    assert "ok    3 entries and 1 report are as they were written" in told
    head = told.splitlines()[-1].split()
    assert head[:2] == ["head", "3"]
    assert main(["audit", "verify", "--head", head[2], "--key", "audit.pub", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert main(["audit", "verify", "--head", "0" * 64]) == 1
    assert "the end was cut off, or the log was rewritten" in capsys.readouterr().out


def test_files_alone_are_verified(
    trail: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An exported log or a copy of the catalog, with the reports and the public key, need no configuration."""
    assert main(["audit", "export", "log.jsonl"]) == 0
    assert stat.S_IMODE((trail / "log.jsonl").stat().st_mode) == 0o600
    away = tmp_path / "away"
    away.mkdir()
    for name in ("log.jsonl", "opskit.db", "audit.pub"):
        shutil.copy(trail / name, away)
    shutil.copytree(trail / "reports", away / "reports")
    (trail / "opskit.toml").unlink()
    options = ["--reports", str(away / "reports"), "--key", str(away / "audit.pub")]
    for log in ("log.jsonl", "opskit.db"):
        assert main(["audit", "verify", "--log", str(away / log), *options]) == 0, log
        assert "3 entries and 1 report" in capsys.readouterr().out
    assert main(["audit", "verify", "--log", str(away / "log.jsonl")]) == 0
    assert "signatures were not checked" in capsys.readouterr().out
    assert main(["audit", "verify", *options]) == 0
    assert "no audit log is given" in capsys.readouterr().out

    lines = (away / "log.jsonl").read_text().replace('"operator"', '"somebody"', 1)
    (away / "log.jsonl").write_text(lines)
    assert main(["audit", "verify", "--log", str(away / "log.jsonl"), *options]) == 1
    assert "FAIL  entry 1 is not what the digest beside it says" in capsys.readouterr().out
    (away / "log.jsonl").write_text("no log\n")
    assert main(["audit", "verify", "--log", str(away / "log.jsonl"), *options]) == 1
    assert main(["audit", "verify", "--log", str(away / "none")]) == 3
    assert main(["audit", "verify", "--log", str(away / "log.jsonl"), "--key", "no.pub"]) == 2
    assert main(["audit", "verify", "--reports", str(away / "none")]) == 2


def test_a_foreign_report_is_named(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A report that somebody put there is a finding, for programs too."""
    name = "main/2026/11/20261123T000000Z-small"
    write_report(trail / "reports", name, None, None)
    assert main(["audit", "verify", "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["passed"] is False
    (finding,) = verdict["findings"]
    assert (finding["fault"], finding["subject"]) == ("not entered", f"report {name}")
    assert name in finding["message"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('kye = "audit.key"', "unknown setting 'audit.kye'"),
        ("public_keys = 1", "'audit.public_keys' is 1, expected a list of texts"),
        ('timestamp_authority = "ftp://x"', "expected an http or https URL"),
        ('timestamp_authority = "https://a:b@x/"', "holds a password"),
    ],
)
def test_a_wrong_setting_is_named(place: Path, line: str, said: str) -> None:
    """What stands below [audit] is checked when it is read."""
    (place / "opskit.toml").write_text(CONFIGURATION.replace('key = "audit.key"', line))
    with pytest.raises(InputError, match=said) as refused:
        load_settings()
    assert refused.value.kind in (
        ErrorKind.UNKNOWN_SETTING,
        ErrorKind.WRONG_SETTING,
        ErrorKind.SECRET_IN_SETTINGS,
    )
