"""expire_backups: a dry run by default, and what it removes is what it showed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from opskit.runbooks import CheckResult, Outcome, run_runbook
from opskit.store import open_store
from tests.notebooks.books import write_settings
from tests.support.repositories import made_up_backup, made_up_wal

BOOK = "expire_backups"


def with_backups(directory: Path, policy: str) -> Settings:
    """Four nightly backups and their WAL; the configuration ends with `policy`."""
    settings = write_settings(directory)
    assert settings.file is not None
    with settings.file.open("a", encoding="utf-8") as file:
        file.write(f"\n{policy}\n")
    store = open_store(settings.repository_url)
    for number in range(4):
        made_up_backup(store, datetime.now(UTC) - timedelta(days=4 - number), 10 + 2 * number)
    made_up_wal(store, range(9, 18))
    return load_settings(settings.file)


def test_a_dry_run_shows_and_the_other_removes(tmp_path: Path) -> None:
    """By default nothing changes; then exactly what was shown goes, and the report has the reasons."""
    settings = with_backups(tmp_path, "retention = { daily = 2 }")
    main = Cluster("main", settings)
    before = main.repository.backups("main")
    dry = run_runbook(settings, BOOK, "main")
    assert dry.passed, dry.reason
    assert main.repository.backups("main") == before
    told = dry.notebook.read_text(encoding="utf-8")
    assert "behind the 2 daily" in told
    assert "this is a dry run" in told

    real = run_runbook(settings, BOOK, "main", {"dry_run": "false"})
    assert real.passed, real.reason
    assert {check.result for check in real.checks} == {CheckResult.PASSED}
    assert main.repository.backups("main") == before[:2]
    main.catalog.close()


def test_without_a_policy_nothing_is_done(tmp_path: Path) -> None:
    """It fails before anything happens, and says what to write."""
    settings = with_backups(tmp_path, "")
    result = run_runbook(settings, BOOK, "main", {"dry_run": "false"})
    assert result.outcome is Outcome.FAILED
    [check] = result.checks
    assert "has no retention" in check.detail
    assert "daily = 7" in check.detail
