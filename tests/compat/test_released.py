"""What an earlier opskit wrote is read for ever: repositories, evidence and catalogs of every released format.

`tests.compat.make` wrote the files beside this one, each by an opskit of its time.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opskit.cluster import Cluster
from opskit.config import load_settings
from opskit.evidence.verify import verify_audit
from opskit.operations.inventory import read_backups, read_wal, take_inventory
from opskit.postgres.programs import Programs
from opskit.repository.snapshot import backup_folder
from tests.compat.make import CONFIGURATION, HERE, WRITERS, tables

KEPT = {int(file.name[7:].partition(".")[0]): file for file in sorted(HERE.glob("format-*"))}
every_format = pytest.mark.parametrize("released", KEPT, indirect=True)


@dataclass(frozen=True)
class Released:
    """A cluster that was kept, and what was told of it at the time."""

    cluster: Cluster
    home: Path
    told: dict[str, Any]


@pytest.fixture
def released(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Released]:
    """What was kept in a format, unpacked and configured; its server is gone."""
    file = KEPT[request.param]
    subprocess.run(["tar", "--zstd", "-C", str(scratch), "-xf", str(file)], check=True)
    home = scratch / "released"
    audit, nowhere = 'public_keys = ["audit.pub"]', json.dumps("host=/nowhere")
    configuration = home / "opskit.toml"
    configuration.write_text(CONFIGURATION.format(audit=audit, conninfo=nowhere))
    cluster = Cluster("main", load_settings(configuration))
    with closing(cluster.catalog):
        yield Released(cluster, home, json.loads((home / "told.json").read_text()))


def test_every_format_is_kept() -> None:
    """What the script can write was written, and lies here."""
    assert set(KEPT) == set(WRITERS)


@every_format
def test_it_is_listed(released: Released) -> None:
    """Backups with their kinds and parents, newest first; the operations of the catalog; the reports."""
    told = released.told["backups"][::-1]
    listed = released.cluster.backups()
    for column in ("name", "kind"):
        assert list(listed[column]) == [backup[column] for backup in told]
    assert list(listed["parent"].fillna("")) == [backup["parent"] or "" for backup in told]
    assert len(released.cluster.operations()) == released.told["operations"]
    assert list(released.cluster.reports()["outcome"]) == ["passed"] * released.told["reports"]


@every_format
def test_its_bytes_are_what_its_records_say(released: Released) -> None:
    """Every object is looked at and read; nothing is missing, differs, or belongs to nothing."""
    repository = released.cluster.repository
    inventory = take_inventory(repository, "main")
    assert (inventory.flaws, inventory.unknown) == ((), ())
    assert len(inventory.backups) == len(released.told["backups"])
    assert [*read_backups(repository, inventory.backups), *read_wal(repository, "main")] == []


@every_format
def test_its_evidence_holds(released: Released) -> None:
    """The log is as it was, up to its head, signed by the key of the time; and so are the reports."""
    verdict = verify_audit(released.cluster.settings, head=released.told["head"])
    assert verdict.findings == ()
    assert (verdict.entries, verdict.reports) == (
        released.told["entries"],
        released.told["reports"],
    )
    (report, *_) = released.home.glob("reports/main/*/*/*.html")
    report.write_bytes(report.read_bytes() + b" ")
    assert not verify_audit(released.cluster.settings).passed


@every_format
def test_its_archive_unpacks(released: Released, scratch: Path) -> None:
    """The newest backup is downloaded, whole, with its tablespace and the WAL behind it."""
    newest = released.told["backups"][-1]["name"]
    written = released.cluster.download("latest", scratch / "main.tar.zst")
    subprocess.run(["tar", "--zstd", "-C", str(scratch), "-xf", str(written)], check=True)
    unpacked = scratch / backup_folder(newest)
    (link,) = (unpacked / "snapshot/data/pg_tblspc").iterdir()
    assert [*(unpacked / "snapshot/tablespaces").iterdir()] == [link.resolve()]
    assert (unpacked / "snapshot/data/global/pg_control").stat().st_size == 8192
    stored = sorted(path.stem for path in released.home.glob("repository/main/wal/*/*/*.zst"))
    assert sorted(path.name for path in unpacked.glob("wal/*"))[-1:] == stored[-1:]


@pytest.mark.parametrize(
    ("released", "programs"),
    [(number, WRITERS[number][0]) for number in KEPT],
    indirect=True,
)
def test_it_restores_and_starts(released: Released, programs: Programs, scratch: Path) -> None:
    """Every backup, and the restore point behind it, come back as the server was; `pg_verifybackup` agrees."""
    for backup in released.told["backups"]:
        copy = released.cluster.restore(scratch / backup["name"], backup=backup["name"])
        verified = copy.verify()
        assert verified.exit_code == 0, verified.output
        with copy.started() as running:
            assert tables(running.server) == backup["tables"]
    if "point" in released.told:
        point = released.told["point"]
        copy = released.cluster.restore(scratch / "point", restore_point=point["name"])
        with copy.started() as running:
            assert tables(running.server) == point["tables"]
