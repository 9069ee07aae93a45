"""Reports filed in the audit trail: sealed, stamped and entered; and never lost because that was not possible."""

import hashlib
import json
import math
import os
import pwd
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest

import opskit
from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from opskit.errors import ConflictError, ErrorKind, InputError, IntegrityError, NotFoundError
from opskit.evidence import _timestamp, read_record
from opskit.evidence.keys import KeyFile, KeyRing, init_key
from opskit.evidence.log import open_catalog
from opskit.evidence.verify import verify_audit
from opskit.model.audit import SignatureState
from opskit.model.chain import Fault
from opskit.model.operation import OperationKind, OperationStatus
from opskit.runbooks._evidence import BACKUP
from opskit.runbooks._filing import Desk, reserve
from opskit.runbooks._report import file_report
from tests.support.authority import Authority
from tests.unit.test_runbook_outcome import executed

BACKUP_NAME = "20261122T140305Z"
NOW = datetime(2026, 11, 22, 14, 3, 5, tzinfo=UTC)
Configure = Callable[..., Settings]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Write a configuration with these lines below ``[audit]``, and read it."""

    def written(*lines: str, catalog: str = "sqlite:///opskit.db") -> Settings:
        repository = (tmp_path / "repository").as_uri()
        (tmp_path / "opskit.toml").write_text(
            f'[repository]\nurl = "{repository}"\n[catalog]\nurl = "{catalog}"\n'
            '[clusters.main]\nconninfo = "service=nowhere"\n[audit]\n' + "\n".join(lines)
        )
        return load_settings(tmp_path / "opskit.toml")

    return written


def run(settings: Settings, **changed: Any) -> dict[str, Any]:
    """File the report of a run that passed, as the supervisor does."""
    master = settings.reports_directory.parent / "small.ipynb"
    if not master.exists():
        nbformat.write(executed(), master)
    order = {
        "runbook": "small",
        "master": str(master),
        "cluster": "main",
        "parameters": {"cluster": "main", "note": "ä", "times": 1, "limit": math.inf},
        "configuration": str(settings.file),
        "reports": str(settings.reports_directory),
        "started_at": "2026-11-22T14:03:05.000Z",
        "host": "host",
        "actor": "operator",
        "jupyter_user": "bob",
        "opskit_version": "1.0",
    }
    desk = reserve(settings.reports_directory, {**order, **changed})
    book = executed()
    told = {"cluster": "main", "name": BACKUP_NAME}
    shown = {BACKUP: told, "text/html": "<p>b</p>"}
    book.cells[3].outputs.append(nbformat.v4.new_output("display_data", shown))
    nbformat.write(book, desk.work / "work.ipynb")
    return file_report(desk, None, NOW)


@pytest.fixture
def signing(tmp_path: Path, configure: Configure) -> Settings:
    """A configuration with a key."""
    init_key(tmp_path / "audit.key")
    return configure('key = "audit.key"')


def test_a_filed_report_verifies(signing: Settings) -> None:
    """Record and entry are signed, the report tells the head before it, and all of it agrees."""
    first, second = run(signing), run(signing)
    record = read_record(Path(second["record"]))
    assert record.is_signed
    assert record.predicate["runbook"] == "small"
    assert record.predicate["parameters"]["note"] == "ä"
    assert record.predicate["parameters"]["limit"] == "Infinity"
    assert set(record.subjects) == {
        "runbook:small.ipynb",
        "main/2026/11/20261122T140305Z-small-2.ipynb",
        "main/2026/11/20261122T140305Z-small-2.html",
    }
    notebook = nbformat.read(second["notebook"], as_version=4)
    head = notebook.metadata.opskit.audit.head
    assert head["number"] == 1
    assert head["sha256"] in Path(second["html"]).read_text()
    table = Cluster("main", signing).audit()
    assert list(table["number"]) == [2, 1]
    assert table["sha256"].iloc[1] == head["sha256"]
    newest = table.iloc[0]
    assert (newest["what"], newest["outcome"], newest["actor"]) == ("small", "passed", "operator")
    assert (newest["jupyter_user"], newest["host"]) == ("bob", "host")
    assert json.loads(newest["parameters"])["note"] == "ä"
    assert Path(first["record"]).stat().st_mode & 0o777 == 0o600
    verdict = verify_audit(signing)
    assert verdict.passed, verdict.findings
    assert (verdict.entries, verdict.reports, verdict.head.number) == (2, 2, 2)


def test_a_backup_is_the_one_that_the_report_vouches_for(signing: Settings, tmp_path: Path) -> None:
    """The digest of the backup's record is kept, and compared as long as the backup is there."""
    stored = tmp_path / f"repository/main/backups/{BACKUP_NAME}/backup.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("{}")
    record = read_record(Path(run(signing)["record"]))
    name = f"main/backups/{BACKUP_NAME}/backup.json"
    assert record.subjects[name] == hashlib.sha256(b"{}").hexdigest()
    assert Cluster("main", signing).audit()["backup"].iloc[0] == BACKUP_NAME
    assert opskit.verify_audit(signing.file).passed
    stored.write_text("{ }")
    verdict = opskit.verify_audit(signing.file)
    assert verdict.findings[0].subject == f"backup main/backups/{BACKUP_NAME}"
    stored.unlink()
    verdict = opskit.verify_audit(signing.file)
    assert verdict.passed
    assert any("not in the repository any more" in note for note in verdict.notes)


def test_operations_and_reports_make_one_chain(signing: Settings) -> None:
    """An operation is entered when it ends, also one that died, and once."""
    catalog = open_catalog(signing)
    ids = [
        catalog.start(
            kind=OperationKind.BACKUP,
            cluster="main",
            parameters={"note": "password=planted-hunter2"},
            actor="operator",
        ).id
        for _ in range(3)
    ]
    catalog.finish(ids[0], OperationStatus.FAILED, error={"message": "no"}, backup="b1")
    run(signing)
    catalog.finish(ids[1], OperationStatus.COMPLETE)
    catalog.finish(ids[1], OperationStatus.FAILED)
    table = Cluster("main", signing).audit()
    assert list(table["outcome"][::-1]) == ["failed", "passed", "complete"]
    assert list(table["operation"].dropna()) == [ids[1], ids[0]]
    assert table["backup"].iloc[-1] == "b1"
    assert "planted" not in "".join(entry.text for entry in catalog.audit_entries())
    catalog.close()
    assert verify_audit(signing).passed


def test_who_did_it_is_told(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's account, and who JupyterHub says it was; an empty log has the columns of a full one."""
    main = Cluster("main", configure())
    empty = main.audit()
    monkeypatch.setenv("JUPYTERHUB_USER", "bob")
    with main._recorded(OperationKind.RESTORE, {"directory": "copy"}, None, None):
        pass
    monkeypatch.delenv("JUPYTERHUB_USER")
    with main._recorded(OperationKind.DOWNLOAD, {}, None, None):
        pass
    table = main.audit()
    assert list(table["what"]) == ["download", "restore"]
    assert table["jupyter_user"].isna().to_list() == [True, False]
    assert table["jupyter_user"].iloc[1] == "bob"
    assert table["actor"].iloc[0] == pwd.getpwuid(os.getuid()).pw_name
    assert table["keyid"].isna().all()
    assert dict(empty.dtypes) == dict(table.dtypes)
    assert len(empty) == 0


def test_an_operation_without_its_entry_is_told(signing: Settings, tmp_path: Path) -> None:
    """Whoever cuts the end off the log has to edit the operations, too."""
    catalog = open_catalog(signing)
    for _ in range(3):
        row = catalog.start(
            kind=OperationKind.RESTORE, cluster="main", parameters={}, actor="operator"
        )
        catalog.finish(row.id, OperationStatus.COMPLETE)
    catalog.close()
    database = sqlite3.connect(tmp_path / "opskit.db")
    with pytest.raises(sqlite3.IntegrityError, match="neither changed nor removed"):
        database.execute("DELETE FROM opskit_audit WHERE number = 3")
    with pytest.raises(sqlite3.IntegrityError, match="neither changed nor removed"):
        database.execute("UPDATE opskit_audit SET entry = '{}' WHERE number = 3")
    database.execute("DROP TRIGGER opskit_audit_no_delete")
    database.execute("DELETE FROM opskit_audit WHERE number = 3")
    database.commit()
    database.close()
    verdict = verify_audit(signing)
    assert [finding.fault for finding in verdict.findings] == [Fault.REMOVED]
    assert verdict.findings[0].subject == f"operation {row.id}"


def test_a_catalog_that_fails_costs_no_report(configure: Configure) -> None:
    """The report says that it is outside the log, verification names it, and the next filing enters it."""
    broken = configure(catalog="sqlite:///missing/opskit.db")
    outside = run(broken)
    page = Path(outside["html"]).read_text()
    assert "The audit log cannot be read: the catalog" in page
    assert nbformat.read(outside["notebook"], 4).metadata.opskit.audit.head is None
    mended = configure()
    verdict = verify_audit(mended)
    assert [finding.fault for finding in verdict.findings] == [Fault.NOT_ENTERED]
    run(mended)
    verdict = verify_audit(mended)
    assert verdict.passed, verdict.findings
    assert verdict.entries == 2
    assert list(mended.reports_directory.rglob(".*.unentered")) == []


def test_a_report_that_was_changed_is_not_entered_later(configure: Configure) -> None:
    """What waits for its entry is entered only as it was filed."""
    outside = run(configure(catalog="sqlite:///missing/opskit.db"))
    with Path(outside["notebook"]).open("a") as file:
        file.write(" ")
    mended = configure()
    run(mended)
    verdict = verify_audit(mended)
    assert verdict.entries == 1
    assert "main/2026/11/20261122T140305Z-small" in verdict.findings[0].subject


def test_a_key_that_cannot_be_used_costs_no_report(signing: Settings, tmp_path: Path) -> None:
    """The report says that it is not signed; with the key mended the next filing enters it, and operations too."""
    key = tmp_path / "audit.key"
    key.chmod(0o644)
    outside = run(signing)
    assert not read_record(Path(outside["record"])).is_signed
    assert "may be read by others" in Path(outside["html"]).read_text()
    catalog = open_catalog(signing)
    row = catalog.start(kind=OperationKind.BACKUP, cluster="main", parameters={}, actor="operator")
    catalog.finish(row.id, OperationStatus.COMPLETE)
    assert catalog.get(row.id).status is OperationStatus.COMPLETE
    assert catalog.not_entered() == [row.id]
    catalog.close()
    key.chmod(0o600)
    run(signing)
    verdict = verify_audit(signing)
    assert verdict.passed, verdict.findings
    assert verdict.entries == 3
    assert any("not signed" in note for note in verdict.notes)


@pytest.mark.parametrize("entered", [True, False])
def test_filing_again_enters_once(
    signing: Settings, monkeypatch: pytest.MonkeyPatch, entered: bool
) -> None:
    """A filing that was cut off, before or after its entry, is repeated without a second entry or another record."""
    with monkeypatch.context() as cut:
        cut.setattr("opskit.runbooks._filing.Desk.clear", lambda desk: None)
        if not entered:
            cut.setattr("opskit.evidence.trail.Trail.enter", lambda *_: None)
        filed = run(signing)
    verdict = verify_audit(signing)
    assert verdict.passed
    assert any("being filed" in note for note in verdict.notes) is not entered
    files = [Path(filed[part]) for part in ("notebook", "html", "record")]
    before = [path.read_bytes() for path in files]
    lock = os.open(os.devnull, os.O_RDONLY)
    desk = Desk(directory=files[0].parent, stem=files[0].stem, lock=lock)
    file_report(desk, None, NOW)
    assert [path.read_bytes() for path in files] == before
    assert not desk.work.exists()
    verdict = verify_audit(signing)
    assert verdict.passed and verdict.entries == 1


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    """A time-stamp authority on loopback."""
    with Authority(tmp_path) as running:
        yield running


def test_records_are_time_stamped(
    configure: Configure, authority: Authority, tmp_path: Path
) -> None:
    """The stamp is kept beside the record, is known to the log, and verifies by the authority's root without it."""
    stamps = f'timestamp_authority = "{authority.url}"'
    settings = configure(stamps, 'timestamp_certificates = ["root.pem"]')
    filed = Path(run(settings)["record"])
    stamp = filed.with_suffix(".tsr")
    assert stamp.stat().st_mode & 0o777 == 0o600
    assert verify_audit(settings).passed
    at = _timestamp.check_timestamp(stamp.read_bytes(), filed.read_bytes(), [authority.root])
    assert abs((at - datetime.now(UTC)).total_seconds()) < 60
    (tmp_path / "other").mkdir()
    with (
        Authority(tmp_path / "other") as stranger,  # its root has the same name
        pytest.raises(ValueError, match="its signature does not hold"),
    ):
        _timestamp.check_timestamp(stamp.read_bytes(), filed.read_bytes(), [stranger.root])
    stamp.write_bytes(_timestamp.request_timestamp(authority.url, filed.read_bytes()))
    assert "not the one that entry 1 knows" in verify_audit(settings).findings[0].message
    stamp.unlink()
    assert verify_audit(settings).findings[0].fault is Fault.REMOVED


@pytest.mark.parametrize("behaviour", ["refuses", "lies", "sleeps"])
def test_an_authority_that_fails_costs_no_report(
    configure: Configure, authority: Authority, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a stamp the report is filed and entered all the same, and verification tells."""
    monkeypatch.setattr(_timestamp.request_timestamp, "__defaults__", (0.3,))
    settings = configure(f'timestamp_authority = "{authority.url}"')
    authority.behaviour = behaviour
    filed = Path(run(settings)["record"])
    assert not filed.with_suffix(".tsr").exists()
    verdict = verify_audit(settings)
    assert verdict.passed
    assert any("is not time-stamped" in note for note in verdict.notes)


def test_a_key_pair_is_made_once(tmp_path: Path) -> None:
    """The private key is for its owner only, nothing is overwritten, and one that others may read is refused."""
    public = init_key(tmp_path / "audit.key")
    assert public == tmp_path / "audit.pub"
    assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "audit.key").read_bytes(), public.read_bytes()
    with pytest.raises(ConflictError, match=r"'.*audit\.key' already"):
        init_key(tmp_path / "audit.key")
    (tmp_path / "audit.key").rename(tmp_path / "kept")
    with pytest.raises(ConflictError, match=r"'.*audit\.pub' already"):
        init_key(tmp_path / "audit.key")
    assert ((tmp_path / "kept").read_bytes(), public.read_bytes()) == before
    assert not (tmp_path / "audit.key").exists()
    key, ring = KeyFile(tmp_path / "kept"), KeyRing.read([public])
    signature = key.sign(b"payload", "type")
    assert ring.check(b"payload", "type", signature) is SignatureState.VALID
    assert ring.check(b"payloaD", "type", signature) is SignatureState.WRONG
    assert KeyRing([]).check(b"payload", "type", signature) is SignatureState.UNKNOWN_KEY
    (tmp_path / "kept").chmod(0o640)
    with pytest.raises(InputError, match="may be read by others: its mode is 0640") as refused:
        KeyFile(tmp_path / "kept").sign(b"", "type")
    assert refused.value.kind is ErrorKind.KEY_NOT_USABLE
    with pytest.raises(InputError, match="no private key"):
        public.chmod(0o600)
        KeyFile(public).sign(b"", "type")
    with pytest.raises(InputError, match="no public key") as told:
        KeyRing.read([tmp_path / "kept"])
    secret = before[0].decode().splitlines()[1]
    assert secret not in str(told.value) + str(refused.value)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"payload": 1}', "null", '{"_type": "x"}'])
def test_what_is_no_record_is_refused(tmp_path: Path, content: str) -> None:
    """A file that is no statement of ours is damage, one that is not there is not found."""
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(IntegrityError, match="is no record"):
        read_record(tmp_path / "x.json")
    with pytest.raises(NotFoundError):
        read_record(tmp_path / "y.json")
