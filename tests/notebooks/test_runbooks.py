"""The masters that come with opskit, executed against real servers."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import nbformat
import pytest

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.evidence import read_record
from opskit.evidence.verify import verify_audit
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.runbooks import CheckResult, Outcome, RunResult, run_runbook
from opskit.store import open_store
from tests.conftest import SettingsFactory
from tests.notebooks.books import left_over
from tests.servers import ServerFactory, fill
from tests.support.streams import streaming

ROOT = Path(__file__).parents[2]
SECRET = "planted-hunter2-xyzzy"


@pytest.mark.parametrize("programs", [pytest.param(16, marks=pytest.mark.sweep), 18], indirect=True)
def test_the_masters_pass_on_a_real_cluster(
    server: ServerFactory,
    settings: SettingsFactory,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backup is taken and proven, then restored, started, asked and judged by PostgreSQL's tools; nothing stays."""
    source = server()
    fill(source)
    monkeypatch.setenv("PGPASSWORD", SECRET)
    here = settings(source)
    backup = run_runbook(here, "scheduled_backup", "main", {"note": "nightly <b>&</b> 'ä'"})
    assert backup.passed, backup.reason
    assert {check.result for check in backup.checks} == {CheckResult.PASSED}
    source.stop()  # a restore needs no production
    restore = run_runbook(here, "local_restore", "main")
    assert restore.passed, restore.reason

    checks = {check.what: check for check in restore.checks}
    judged = checks["pg_amcheck finds no damage in any table or index"]
    if source.programs.major == 16:  # the wheel pgserver has no extensions
        assert (judged.result, judged.detail[:10]) == (CheckResult.NOT_RUN, "this build")
    else:
        assert judged.result is CheckResult.PASSED
    verified = checks["pg_verifybackup finds every file as the manifest says"]
    assert verified.result is CheckResult.PASSED
    told = _text(restore)
    assert "5,000" in told  # the rows of a table with an odd name
    assert 'Büro "Köln"\'s' in told
    for result in (backup, restore):
        assert result.html is not None
        assert result.html.read_text().count("data:image/svg+xml") >= 1
        assert SECRET not in result.html.read_text() + result.notebook.read_text()
    assert not left_over(str(here.reports_directory))
    assert not any(SECRET.encode() in p.read_bytes() for p in scratch.rglob("*.json"))
    _assert_evidence(here, [backup, restore])


def _assert_evidence(here: Settings, results: list[RunResult]) -> None:
    """The runs and the operations inside them stand in the audit log, and nothing is amiss."""
    verdict = verify_audit(here)
    assert verdict.passed, verdict.findings
    table = Cluster("main", here).audit()
    whats = ["backup", "scheduled_backup", "restore", "local_restore"]
    assert list(table["what"][::-1]) == whats
    name = table["backup"].iloc[-1]
    assert set(table["backup"]) == {name}
    (stored,) = Path(here.file or "").parent.glob(f"repository/main/backups/{name}/backup.json")
    digest = hashlib.sha256(stored.read_bytes()).hexdigest()
    for result in results:
        record = read_record(result.notebook.with_suffix(".json"))
        assert record.subjects[f"main/backups/{name}/backup.json"] == digest


def _back_up(here: Settings) -> None:
    """Take the backup that a test restores, without a runbook: another test runs that."""
    main = Cluster("main", here)
    with closing(main.catalog):
        main.create_backup()


def _text(result: RunResult) -> str:
    cells = nbformat.read(result.notebook, as_version=4).cells
    outputs = [o for c in cells if c.cell_type == "code" for o in c.outputs if "data" in o]
    return "\n".join(o.data["text/plain"] for o in outputs)


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_restore_keeps_or_clears_what_it_made(
    server: ServerFactory, settings: SettingsFactory, scratch: Path
) -> None:
    """A directory that was given ends as the parameters say, and files that were there before are never touched."""
    source = server()
    here = settings(source)
    _back_up(here)
    places = {name: scratch / name for name in ("kept", "cleared", "taken")}
    places["taken"].mkdir()
    (places["taken"] / "mine.txt").write_text("mine")

    def restore(place: str, keep: str) -> RunResult:
        given = {"directory": str(places[place]), "keep": keep}
        return run_runbook(here, "local_restore", "main", given)

    with ThreadPoolExecutor(3) as pool:
        runs = pool.map(restore, ("kept", "cleared", "taken"), ("true", "false", "false"))
        kept, cleared, taken = runs
    assert kept.passed and cleared.passed
    assert (places["kept"] / "snapshot/conf/postgresql.conf").is_file()
    assert not places["cleared"].exists()
    assert taken.outcome is Outcome.FAILED
    assert "directory" in taken.reason
    assert [path.name for path in places["taken"].iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_damaged_backup_fails_its_restore(
    server: ServerFactory, settings: SettingsFactory, scratch: Path
) -> None:
    """A flipped byte in a volume ends the restore as failed, with the volume's name; the report is kept."""
    source = server()
    here = settings(source)
    _back_up(here)
    (volume,) = (scratch / "opskit/repository").rglob("snapshot-00001.tar.zst")
    content = bytearray(volume.read_bytes())
    content[len(content) // 2] ^= 1
    volume.chmod(0o600)
    volume.write_bytes(content)
    result = run_runbook(here, "local_restore", "main")
    assert result.outcome is Outcome.FAILED
    assert "snapshot-00001.tar.zst" in result.reason
    assert result.html is not None and "Failed" in result.html.read_text()


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_server_that_is_down_fails_the_backup(
    server: ServerFactory, settings: SettingsFactory
) -> None:
    """A backup of a server that does not answer fails before anything is done, and says what to do."""
    source = server()
    here = settings(source)
    source.stop()
    result = run_runbook(here, "scheduled_backup", "main")
    assert result.outcome is Outcome.FAILED
    assert "ServerError" in result.reason or "server" in result.reason
    assert not (here.reports_directory.parent / "repository/main").exists()


@pytest.mark.long
@pytest.mark.parametrize("programs", [18], indirect=True)
def test_nbval_runs_the_masters_with_their_defaults(
    server: ServerFactory, settings: SettingsFactory
) -> None:
    """``pytest --nbval-lax`` and JupyterLab run the same notebooks, with the defaults of their parameters."""
    source: LocalServer = server()
    fill(source)
    here = settings(source)
    environment: Mapping[str, str] = os.environ | {"OPSKIT_CONFIG": str(here.file)}
    names = ("scheduled_backup", "local_restore", "point_in_time_restore", "repository_health")
    books = [str(ROOT / "runbooks" / f"{name}.ipynb") for name in names]
    with streaming(source, Repository(open_store(here.repository_url))):
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]  # noqa: RUF005
            + ["--nbval-lax", "--nbval-current-env", *books],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert ended.returncode == 0, ended.stdout[-3000:]
