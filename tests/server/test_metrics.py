"""What Prometheus is told of a real cluster, and that the dashboard and the rules ask for nothing else."""

import json
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from opskit.metrics import shipped
from opskit.model.lsn import Lsn
from opskit.model.operation import OperationKind, OperationStatus
from opskit.postgres.server import free_port
from tests.servers import ServerFactory
from tests.support.command import PROJECT, command
from tests.support.streams import caught_up, streaming

_QUERY = re.compile(
    r'"(?:expr|definition|query)": "((?:[^"\\]|\\.)*)"|^ *expr: (.*)$', re.MULTILINE
)
_WORDS = {"by", "time", "max", "min", "deriv", "absent", "label_values", "prometheus"}


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_every_metric_of_dashboard_and_rules_is_told(
    server: ServerFactory, settings: Callable[..., Settings]
) -> None:
    """Of a cluster with backups, WAL, a schedule, failures and something that runs, all of them are there, and true."""
    source = server({"max_slot_wal_keep_size": "1GB"}, wal_segment_megabytes=1)
    file = settings(source).file
    assert file is not None
    with file.open("a") as more:
        more.write('schedule = "0 2 * * *"\n')
    main = Cluster("main", load_settings(file))
    with streaming(source, main.repository):
        backup = main.create_backup()
        caught_up(source, lambda: main.repository.known_wal("main"))
        begun = [start(main, kind) for kind in (OperationKind.EXPIRE, OperationKind.BACKUP)]
        main.catalog.finish(begun[0], OperationStatus.FAILED, error={"message": "no"})
        text = served(main.settings)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for shipped_file in ("grafana.json", "rules.yml"):
        asked = names_in(shipped(shipped_file))
        assert len(asked) > 5
        assert asked <= set(families), shipped_file
    json.loads(shipped("grafana.json"))

    assert value(families, "opskit_up", cluster="main") == 1
    at = {"cluster": "main", "kind": "full", "trigger": "on demand"}
    ended = value(families, "opskit_backup_last_success_timestamp_seconds", **at)
    assert ended == pytest.approx(backup.stopped_at.timestamp())
    assert value(families, "opskit_backups_stored_bytes") == backup.stored_bytes
    assert value(families, "opskit_backup_newest_cluster_bytes") == backup.cluster_bytes
    assert value(families, "opskit_backup_allowed_age_seconds") == pytest.approx(26 * 3600)
    assert value(families, "opskit_operations_running", kind="backup") == 1
    assert value(families, "opskit_finding_failing", finding="last expire") == 1
    assert value(families, "opskit_wal_slot_status", status="reserved") == 1
    assert Lsn(int(value(families, "opskit_wal_archive_end_lsn_bytes"))) >= backup.stop_lsn
    main.catalog.finish(begun[1], OperationStatus.COMPLETE)
    main.catalog.close()
    for family in families.values():
        assert family.documentation
        assert family.type == "gauge"
        assert all(sample.labels.get("cluster", "main") == "main" for sample in family.samples)


def start(main: Cluster, kind: OperationKind) -> str:
    """An operation that runs."""
    return main.catalog.start(kind=kind, cluster="main", parameters={}, actor="anna").id


def served(settings: Settings) -> str:
    """What ``opskit metrics --listen`` answers, on loopback; it ends when it is told to."""
    port = free_port()
    with subprocess.Popen(
        command(settings, "metrics", "--listen", str(port)),
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == f"serving http://127.0.0.1:{port}/metrics\n"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                text: str = answer.read().decode()
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
    assert code == 128 + signal.SIGTERM
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    return text


def names_in(text: str) -> set[str]:
    """The names of metrics in queries: what is left without labels, groups, durations, functions and numbers."""
    queries = [json.loads(f'"{a}"') if a else b for a, b in _QUERY.findall(text)]
    found: set[str] = set()
    for query in queries:
        plain = re.sub(r"\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)|, cluster\)", " ", query)
        found |= set(re.findall(r"[a-z_][a-z0-9_]*", plain)) - _WORDS
    return found


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """The value of the only sample with these labels."""
    [found] = [s.value for s in families[name].samples if labels.items() <= s.labels.items()]
    return float(found)


def test_queries_are_read_to_the_name() -> None:
    """A metric that does not exist would be found in a query."""
    query = 'expr: max by (cluster) (opskit_typo{kind="a"}[5m]) / time() > on_call'
    assert names_in(query) == {"opskit_typo", "on_call"}
