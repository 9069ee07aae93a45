"""Metrics of clusters that cannot be read, and how they are written."""

import json
import os
import socket
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from opskit.cli import main as opskit
from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from opskit.errors import StoreError
from opskit.metrics import Metrics
from opskit.model.freshness import FreshnessFinding, Severity
from opskit.model.operation import OperationKind, OperationStatus
from opskit.store import LocalStore
from tests.support.repositories import made_up_backup, made_up_wal

NOW = datetime.now(UTC)

Values = dict[tuple[str, str], float]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two clusters whose servers nobody finds: ``main`` has a backup and WAL, ``shop`` nothing."""
    (tmp_path / "opskit.toml").write_text(
        f'[repository]\nurl = "{(tmp_path / "repository").as_uri()}"\n'
        f'[clusters.main]\nconninfo = "host={tmp_path} user=nobody password=hunter22"\n'
        f'[clusters.shop]\nconninfo = "host={tmp_path} user=nobody"\n'
    )
    store = LocalStore(tmp_path / "repository")
    made_up_backup(store, NOW - timedelta(hours=3), 5)
    made_up_wal(store, [5, 6])
    return tmp_path


def read(home: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Values:
    """What ``opskit metrics`` prints, by metric and the other label or else the cluster."""
    assert opskit(["--config", str(home / "opskit.toml"), "metrics", *arguments]) == 0
    return parsed(capsys.readouterr().out)


def parsed(text: str) -> Values:
    """The values by metric, and cluster with the other labels."""
    assert "hunter22" not in text
    return {
        (sample.name.removeprefix("opskit_"), " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_cannot_be_read_is_absent_not_zero(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server is away: the repository's part is told, the server's is not, and `up` says so."""
    values = read(home, capsys, "main")
    assert values["up", "main"] == 0
    assert values["source_up", "main server"] == 0
    assert values["source_up", "main repository"] == 1
    assert values["backups", "main"] == 1
    assert values["wal_gaps", "main"] == 0
    names = {name for name, _ in values}
    assert not names & {"wal_behind_bytes", "wal_behind_seconds", "wal_slot_exists"}
    (home / "opskit.db").write_text("no database " * 100)
    values = read(home, capsys, "main")
    assert values["source_up", "main catalog"] == 0
    assert values["backups", "main"] == 1
    assert not [name for name, _ in values if name.startswith("operation")]


def test_a_repository_that_is_not_mounted_has_not_no_backups(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Backups were taken, and nothing is there: their number is not 0 but unknown."""
    main = Cluster("main", settings(home))
    row = main.catalog.start(kind=OperationKind.BACKUP, cluster="main", parameters={}, actor="anna")
    main.catalog.finish(row.id, OperationStatus.COMPLETE)
    main.catalog.close()
    (home / "repository").rename(home / "away")
    values = read(home, capsys, "main")
    assert values["up", "main"] == values["source_up", "main repository"] == 0
    assert values["finding_failing", "main repository"] == 1
    assert not [name for name, _ in values if name.startswith(("backup", "wal"))]


def test_all_clusters_are_told_and_nothing_is_made_up(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cluster without anything has no backups, and no time of the last one."""
    values = read(home, capsys)
    assert values["backups", "main"] == 1
    assert values["backups", "shop"] == 0
    told = [key for key in values if key[0] == "backup_last_success_timestamp_seconds"]
    assert told == [("backup_last_success_timestamp_seconds", "main full scheduled")]
    assert ("backup_allowed_age_seconds", "main") not in values  # nothing says how old it may be


def test_a_fault_in_one_cluster_hides_no_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is down, and the others are told."""
    real = Cluster.read_sources

    def faulty(self: Cluster, patience_seconds: float = 15) -> object:
        if self.name == "shop":
            raise RuntimeError("a fault")
        return real(self, patience_seconds)

    monkeypatch.setattr(Cluster, "read_sources", faulty)
    values = parsed(Metrics(settings(home), ["main", "shop"]).text().decode())
    assert values["up", "shop"] == 0
    assert values["backups", "main"] == 1
    assert ("backups", "shop") not in values


def settings(home: Path) -> Settings:
    """Its settings."""
    return load_settings(home / "opskit.toml")


def test_many_who_ask_at_once_are_one_look(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And whoever asks within five seconds gets the same."""
    looked: list[str] = []
    real = Cluster.read_sources

    def counted(self: Cluster, patience_seconds: float = 15) -> object:
        looked.append(self.name)
        return real(self, patience_seconds)

    monkeypatch.setattr(Cluster, "read_sources", counted)
    metrics = Metrics(settings(home), ["main"])
    threads = [threading.Thread(target=metrics.text) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert looked == ["main"]


def test_a_cluster_that_does_not_answer_holds_nobody_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks gets the reading before, with its time, and the new one when that has come."""
    answers = threading.Event()
    answers.set()
    real = Cluster.read_sources

    def slow(self: Cluster, patience_seconds: float = 15) -> object:
        assert answers.wait(30)
        return real(self, patience_seconds)

    monkeypatch.setattr(Cluster, "read_sources", slow)
    monkeypatch.setattr("opskit.metrics._exposition._CACHED_SECONDS", 0)
    metrics = Metrics(settings(home), ["main"], patience_seconds=None)
    at = ("collected_timestamp_seconds", "main")
    first = parsed(metrics.text().decode())[at]
    answers.clear()
    metrics._patience_seconds = 0.05
    assert parsed(metrics.text().decode())[at] == first
    answers.set()
    metrics._patience_seconds = None
    assert parsed(metrics.text().decode())[at] > first


def test_a_file_for_node_exporter_is_whole_and_readable_by_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the umask; nothing is left beside it; a folder that is not there is an error."""
    file = home / "opskit.prom"
    before = os.umask(0o077)
    try:
        for _ in range(2):
            read(home, capsys, "main", "--output", str(file))
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert parsed(file.read_text())["backups", "main"] == 1
    assert [path.name for path in home.glob("*.prom*")] == ["opskit.prom"]
    assert [path for path in home.iterdir() if path.name.startswith(".opskit.prom")] == []
    config = ["--config", str(home / "opskit.toml")]
    assert opskit([*config, "metrics", "--output", str(home / "no/x.prom")]) == StoreError.exit_code
    assert "cannot be written" in capsys.readouterr().err


def test_labels_are_escaped(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in them comes back from Prometheus' own parser."""
    odd = 'a "quoted" \\ name\nof two lines'
    finding = FreshnessFinding(name=odd, severity=Severity.WARNING, message="odd")
    monkeypatch.setattr(Cluster, "judge", lambda self, found: [finding])
    values = parsed(Metrics(settings(home), ["main"]).text().decode())
    assert values["finding_failing", f"main {odd}"] == 1


@pytest.mark.parametrize(
    "arguments",
    [["--listen", "nowhere"], ["--listen", "x:0"], ["--dashboard", "--rules"], ["nosuch"]],
)
def test_wrong_usage_is_told(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """As for every command."""
    assert opskit(["--config", str(home / "opskit.toml"), "metrics", *arguments]) in (2, 3)
    assert capsys.readouterr().err.startswith("opskit: ")


def test_a_port_that_is_taken_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = ["--config", str(home / "opskit.toml")]
        assert opskit([*config, "metrics", "--listen", address]) == 2
    assert f"nobody can listen at '{address}'" in capsys.readouterr().err


def test_dashboard_and_rules_need_no_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are printed as they are, to be given to Grafana and Prometheus."""
    config = ["--config", str(tmp_path / "none.toml")]
    assert opskit([*config, "metrics", "--dashboard"]) == 0
    board = json.loads(capsys.readouterr().out)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert opskit([*config, "metrics", "--rules"]) == 0
    assert "alert: OpskitBackupTooOld" in capsys.readouterr().out
