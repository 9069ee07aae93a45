"""What notebooks show of values: a card of HTML, and one line of text that says the same in short."""

import re
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import opskit
from opskit.config import PostgresSettings, Settings
from opskit.evidence.verify import AuditVerdict
from opskit.local_copy import LocalCopy
from opskit.model.audit import Head
from opskit.model.chain import AuditFinding, Fault
from opskit.model.lsn import Lsn
from opskit.model.operation import Operation, OperationKind, OperationStatus, Progress
from opskit.model.retention import Decision, Hold
from opskit.model.target import parse_target
from opskit.model.timeline import first_timeline
from opskit.operations.check import Finding
from opskit.operations.consolidate import ConsolidatePlan
from opskit.operations.copy import RestoredCopy
from opskit.operations.expire import Expired, ExpirePlan
from opskit.operations.process import OperationHandle
from opskit.operations.recovery import RecoveryPlan
from opskit.operations.restore import Layout, plan_restore
from opskit.operations.wal_path import WalPath
from opskit.operations.wal_status import WalStatus
from opskit.postgres.facts import ClusterFacts, Database
from opskit.postgres.programs import CompletedRun
from opskit.runbooks import RunResult
from opskit.runbooks._record import Outcome
from tests.notebooks.books import write_settings
from tests.support.records import EPOCH, SEGMENT_BYTES, record

EVIL = '<img src=x onerror="alert(1)">'
SECRET = "hunter2"
BACKUP = record(EPOCH, note=EVIL, cluster_bytes=1_500_000_000, stored_bytes=300_000_000)
OTHER = record(EPOCH - timedelta(days=1), note=EVIL)


def _operation(status: OperationStatus = OperationStatus.RUNNING, **changed: Any) -> Operation:
    return Operation(
        **{
            "id": "1f" * 16,
            "kind": OperationKind.BACKUP,
            "cluster": "main",
            "status": status,
            "host": EVIL,
            "pid": 1,
            "actor": EVIL,
            "started_at": EPOCH,
            "heartbeat_at": EPOCH,
            "progress": Progress(phase="copying", bytes_done=500_000_000, bytes_expected=2 * 10**9),
            **changed,
        }
    )


def _plan(recovery: RecoveryPlan | None = None) -> Any:
    return plan_restore(BACKUP, Path("/nowhere") / EVIL, recovery=recovery, layout=Layout.ARCHIVE)


def _recovery() -> RecoveryPlan:
    target = parse_target(restore_point=EVIL)
    assert target is not None
    path = WalPath(history=first_timeline(), segments=(), partial=None, gap=None, stored_bytes=0)
    return RecoveryPlan(backup=BACKUP, target=target, path=path, why=EVIL)


def _wal(passed: bool) -> WalStatus:
    finding = Finding(name="gaps", passed=passed, message=EVIL, hint=EVIL)
    return WalStatus(
        cluster="main",
        timelines=(),
        gaps=(),
        timeline=1,
        end=Lsn(3 << 24),
        stored_at=EPOCH,
        slot_name="opskit",
        server=None,
        behind_bytes=None,
        behind=None,
        findings=(finding,),
    )


def _copy() -> RestoredCopy:
    return RestoredCopy(
        directory=Path("/nowhere") / EVIL,
        layout=Layout.ARCHIVE,
        data_directory=Path("/nowhere/snapshot/data"),
        major=18,
        cluster="main",
        backup=BACKUP.name,
        superuser="focker",
        postgres=PostgresSettings(),
    )


def _facts() -> ClusterFacts:
    shown: dict[str, Any] = {
        "system_identifier": "7000000000000000001",
        "postgresql_version": "18.1",
        "in_recovery": True,
        "data_checksums": False,
        "databases": (
            Database(name=EVIL, database_bytes=10**9),
            Database(name="x", database_bytes=None),
        ),
        "tablespace_names": {1663: EVIL},
    }
    others = [field.name for field in fields(ClusterFacts) if field.name not in shown]
    return ClusterFacts(**{**shown, **dict.fromkeys(others, SEGMENT_BYTES)})


def _verdict(*findings: AuditFinding) -> AuditVerdict:
    return AuditVerdict(
        entries=12, reports=3, head=Head(number=12, sha256="ab"), findings=findings, notes=()
    )


def _result() -> RunResult:
    return RunResult(
        runbook="local_restore",
        cluster="main",
        outcome=Outcome.FAILED,
        reason=EVIL,
        parameters={},
        started_at=EPOCH,
        ended_at=EPOCH + timedelta(minutes=2),
        steps=(),
        checks=(),
        notebook=Path("/nowhere") / EVIL,
        html=None,
    )


EXPIRE = ExpirePlan(
    cluster="main",
    decisions=(Decision(BACKUP, True, ("newest",)), Decision(OTHER, False, (EVIL,))),
    abandoned=(),
    wal=(),
)
CONSOLIDATE = ConsolidatePlan(backup=BACKUP, chain=(BACKUP, OTHER), estimated_bytes=1_200_000_000)
WRONG = AuditFinding(fault=next(iter(Fault)), subject="entry 17", number=17, message=EVIL)
HOLD = Hold(backup=BACKUP.name, by=EVIL, reason=EVIL, placed_at=EPOCH)
EXPIRED = Expired(
    backups=(OTHER.name,), kept_after_all={"x": EVIL}, abandoned=(), wal_segments=1, freed_bytes=100
)
FAILED = _operation(OperationStatus.FAILED, error={"message": EVIL, "hint": EVIL})

VALUES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "backup": (lambda: BACKUP, "1.5 GB stored as 300 MB, PostgreSQL 18.0", "1.5 GB"),
    "operation": (_operation, "running: copying, 500 MB of 2.0 GB", "500 MB of 2.0 GB"),
    "failed operation": (lambda: FAILED, "failed: <img", "failed: &lt;img"),
    "hold": (lambda: HOLD, f"{BACKUP.name} is held", "is held"),
    "restore": (_plan, "nothing is done yet", "Nothing is done yet"),
    "restore to": (lambda: _plan(_recovery()), "recovered to restore point", "restore point"),
    "recovery": (_recovery, "0 WAL segments on timeline 1", "0 segments on timeline 1"),
    "expire": (lambda: EXPIRE, "remove 1 of 2 backups", "remove 1 backup of main"),
    "consolidate": (lambda: CONSOLIDATE, "into a full backup of about 1.2 GB", "about 1.2 GB"),
    "expired": (lambda: EXPIRED, "freed 100 B", "100 B"),
    "wal": (lambda: _wal(passed=True), "up to 0/3000000 on timeline 1, all is well", "all is well"),
    "wrong wal": (lambda: _wal(passed=False), "gaps: <img", "look at this"),
    "copy": (_copy, f"of 'main' {BACKUP.name}", "not running"),
    "facts": (_facts, "PostgreSQL 18.1, a standby: 2 databases, 1.0 GB", "a standby"),
    "program": (
        lambda: CompletedRun(exit_code=1, output=f"a\n{EVIL}\n"),
        "exit code 1: <img",
        "exit code 1",
    ),
    "verdict": (_verdict, "12 entries and 3 reports are as they were written", "12 entries"),
    "findings": (lambda: _verdict(WRONG), "1 findings in 12 entries", "1 finding"),
    "run": (_result, "local_restore on 'main': failed", "on main: failed"),
}


class _Structure(HTMLParser):
    """The tags and the text of a card."""

    def __init__(self, card: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(card)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(("make", "said", "shown"), VALUES.values(), ids=VALUES.keys())
def test_values_have_a_card_and_a_line(make: Callable[[], Any], said: str, shown: str) -> None:
    """Each says what matters in one line of text and on a card, and brings no markup of others into the page."""
    value = make()
    line = repr(value)
    assert "\n" not in line and re.fullmatch(r"<.+>", line) and len(line) < 400
    assert said in line
    card = value._repr_html_()
    assert shown in card
    structure = _Structure(card)
    assert set(structure.tags) <= {
        *("div", "p", "span", "strong", "dl", "dt", "dd", "pre"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert "style" in card and "<style" not in card and "http" not in card


def test_a_card_stands_for_a_copy_and_an_operation() -> None:
    """What is opened of files or of the catalog shows what these say; without a catalog's answer, text is left."""
    files = _copy()
    settings = Settings(repository_url="", catalog_url="", reports_directory=Path("/nowhere"))
    copy = LocalCopy(files, settings)
    assert copy._repr_html_() == files._repr_html_() and repr(copy) == repr(files)

    class Known:
        def get(self, id: str) -> Operation:  # noqa: A002
            if id != "known":
                raise opskit.StoreError("the catalog is away")
            return FAILED

    known: Any = Known()
    assert repr(OperationHandle(known, "known")) == repr(FAILED)
    assert OperationHandle(known, "known")._repr_html_() == FAILED._repr_html_()
    assert (
        repr(OperationHandle(known, "unknown")) == "<opskit operation unknown: the catalog is away>"
    )
    assert OperationHandle(known, "unknown")._repr_html_() is None


def test_a_cluster_is_shown_without_its_server(tmp_path: Path) -> None:
    """A cluster's card says what the repository holds, its line where that is; neither asks the server."""
    settings = write_settings(tmp_path)
    main = opskit.cluster("main", settings.file)
    assert repr(main) == f"<opskit cluster 'main' in {main.repository.url}>"
    card = main._repr_html_()
    assert "Cluster main" in card and "none yet" in card and "nothing is ever removed" in card


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Neither line nor card tells how the server is reached: a password may stand there, and is refused later."""
    file = tmp_path / "opskit.toml"
    file.write_text(
        f'[repository]\nurl = "{(tmp_path / "repository").as_uri()}"\n'
        f'[clusters.main]\nconninfo = "host=db1 password={SECRET}"\n'
    )
    main = opskit.cluster("main", file)
    told = repr(main) + main._repr_html_() + repr(main.settings) + repr(main.configuration)
    assert SECRET not in told
