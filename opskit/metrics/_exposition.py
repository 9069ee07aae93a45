"""Prometheus' names for what is told, and its text."""

import math
import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.errors import ErrorKind, StoreError
from opskit.metrics._collect import SOURCES, Sample, collect
from opskit.version import __version__

_AT_ONCE = 8  # clusters that are looked at: most of it is waiting for servers and disks
_CACHED_SECONDS = 5.0

# What each is, and its labels beside the cluster's.
_DESCRIBED: dict[str, tuple[str, tuple[str, ...]]] = {
    "up": ("Whether everything could be read of the cluster; what could not is absent.", ()),
    "source_up": ("Whether this could be read.", ("source",)),
    "collected_timestamp_seconds": ("When this was read.", ()),
    "finding_failing": (
        "Whether a finding of 'opskit check' on freshness does not pass.",
        ("finding",),
    ),
    "backup_last_success_timestamp_seconds": (
        "When the newest backup of the kind and trigger ended.",
        ("kind", "trigger"),
    ),
    "backup_allowed_age_seconds": ("How old the newest backup may become.", ()),
    "backup_newest_duration_seconds": ("How long the newest backup took.", ()),
    "backup_newest_cluster_bytes": ("Size of the newest backup when it is restored.", ()),
    "backup_newest_stored_bytes": ("Size of the newest backup in the repository.", ()),
    "backups": ("Number of complete backups.", ()),
    "backups_stored_bytes": ("Size of all backups in the repository.", ()),
    "operation_last_failure_timestamp_seconds": (
        "When an operation of the kind failed or died last.",
        ("kind",),
    ),
    "operation_last_success_timestamp_seconds": (
        "When an operation of the kind was completed last.",
        ("kind",),
    ),
    "operations_running": ("Number of operations of the kind that run.", ("kind",)),
    "schedule_next_due_timestamp_seconds": ("When the next scheduled backup is due.", ()),
    "schedule_failures": ("How often the scheduled backup that is due failed.", ()),
    "wal_archive_end_lsn_bytes": ("The LSN at which the WAL archive ends, as a number.", ()),
    "wal_last_stored_timestamp_seconds": ("When something was put into the WAL archive last.", ()),
    "wal_stored_bytes": ("Size of the WAL archive's whole segments in the repository.", ()),
    "wal_behind_bytes": ("WAL that the server has on its disk and the archive not yet.", ()),
    "wal_behind_seconds": ("How old that is at most.", ()),
    "wal_gaps": ("Number of gaps in the WAL archive that a backup needs.", ()),
    "wal_missing_segments": ("Number of WAL segments missing in these gaps.", ()),
    "wal_slot_exists": ("Whether the server has the replication slot of the archive.", ()),
    "wal_slot_active": ("Whether the slot is in use.", ()),
    "wal_slot_status": ("Which wal_status of pg_replication_slots the slot has.", ("status",)),
    "wal_slot_kept_bytes": ("WAL that the server keeps for the slot.", ()),
    "wal_slot_safe_bytes": (
        "WAL that may still be written before the slot is in danger, where it is limited.",
        (),
    ),
}


class Metrics(Collector):
    """The samples of clusters, read anew when they are older than five seconds, once for all who ask.

    Parameters
    ----------
    patience_seconds
        How long whoever asks waits for a reading that goes on; then there is the one before, and its
        ``opskit_collected_timestamp_seconds``. One server that does not answer must not hide all clusters from a
        Prometheus that waits ten seconds. `None` waits for its end.
    """

    def __init__(
        self, settings: Settings, clusters: Sequence[str], patience_seconds: float | None = None
    ) -> None:
        self._clusters = [Cluster(name, settings) for name in clusters]
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._families: list[GaugeMetricFamily] = [_build()]
        self._read_at = -math.inf
        self._reading: threading.Thread | None = None
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing is read to be registered; see `Collector`."""
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """See `Collector`."""
        with self._lock:
            stale = time.monotonic() - self._read_at > _CACHED_SECONDS
            if stale and self._reading is None:
                self._reading = threading.Thread(
                    target=self._read, name="opskit metrics", daemon=True
                )
                self._reading.start()
            reading = self._reading
        if reading is not None:
            reading.join(self._patience_seconds)
        with self._lock:
            return list(self._families)

    def _read(self) -> None:
        with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="opskit metrics") as pool:
            samples = [s for found in pool.map(_samples, self._clusters) for s in found]
        with self._lock:
            self._families = [_build(), *_families(samples)]
            self._read_at = time.monotonic()
            self._reading = None


def _build() -> GaugeMetricFamily:
    family = GaugeMetricFamily("opskit_build_info", "The version of opskit.", labels=["version"])
    family.add_metric([__version__], 1)
    return family


def _samples(cluster: Cluster) -> list[Sample]:
    try:
        return collect(cluster)
    except Exception:  # one cluster that cannot be told of must not hide the others
        down = [Sample("source_up", 0, {"cluster": cluster.name, "source": s}) for s in SOURCES]
        return [Sample("up", 0, {"cluster": cluster.name}), *down]


def _families(samples: Sequence[Sample]) -> list[GaugeMetricFamily]:
    """Each metric that has a sample, in the order of the descriptions."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    families = []
    for name, (description, labels) in _DESCRIBED.items():
        if name in by_name:
            family = GaugeMetricFamily(f"opskit_{name}", description, labels=["cluster", *labels])
            for sample in by_name[name]:
                family.add_metric(
                    [sample.labels[key] for key in ("cluster", *labels)], sample.value
                )
            families.append(family)
    return families


def shipped(name: str) -> str:
    """A file that comes with opskit: ``grafana.json`` or ``rules.yml``."""
    return files("opskit.metrics").joinpath(name).read_text(encoding="utf-8")


def write_file(path: Path, content: bytes) -> None:
    """Put a file there at once, readable by everybody, as node_exporter's textfile collector reads it.

    Raises
    ------
    StoreError
        The folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")  # the collector reads *.prom only
    try:
        with part.open("wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(
            f"the metrics cannot be written to {str(path)!r}: {(error.strerror or '').lower()}",
            ErrorKind.STORE_NOT_WRITABLE,
            "Name a file in a folder that the account that runs opskit may write to.",
        ) from None
