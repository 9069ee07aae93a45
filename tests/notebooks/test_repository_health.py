"""repository_health on the repository of a real server, healthy and then in a bad way; see also tests/unit."""

from pathlib import Path

import nbformat
import pytest

from opskit.cluster import Cluster
from opskit.runbooks import CheckResult, Outcome, run_runbook
from tests.conftest import SettingsFactory
from tests.servers import ServerFactory, fill
from tests.support.streams import caught_up, streaming

BOOK = "repository_health"


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_healthy_repository_and_one_in_a_bad_way(
    server: ServerFactory, settings: SettingsFactory, scratch: Path
) -> None:
    """All passes beside a running server; with it gone, and volume and WAL missing, each is named; nothing changes."""
    source = server(wal_segment_megabytes=1)
    fill(source)
    main = Cluster("main", settings(source))
    with streaming(source, main.repository):
        for _ in range(2):
            main.create_backup()
            source.query("SELECT pg_switch_wal()")
        caught_up(source, lambda: main.repository.known_wal("main"))
        healthy = run_runbook(main.settings, BOOK, "main", {"deep": "true"})
    assert healthy.passed, healthy.reason
    assert {check.result for check in healthy.checks} == {CheckResult.PASSED}
    shown = [
        output.data
        for cell in nbformat.read(healthy.notebook, as_version=4).cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    assert sum("image/svg+xml" in data for data in shown) == 3
    assert any("Chart, what can be restored: timeline 1" in data["text/plain"] for data in shown)

    source.stop()
    place = scratch / "opskit/repository/main"
    newest = place / "backups" / main.backup().name
    (newest / "snapshot-00001.tar.zst").unlink()
    segments = sorted((place / "wal").glob("*/*/*.zst"))
    segments[len(segments) // 2].unlink()
    (place / "stranger").write_text("x")
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    ill = run_runbook(main.settings, BOOK, "main")
    assert ill.outcome is Outcome.FAILED
    why = {check.what: check.detail for check in ill.checks if check.result is CheckResult.FAILED}
    assert len(why) == 3
    told = "; ".join(why.values())
    assert f"{newest.name}/snapshot-00001.tar.zst is missing" in told
    assert f"1 segment missing, {segments[len(segments) // 2].name[:24]}" in told
    assert "main/stranger" in told
    not_run = [check.what for check in ill.checks if check.result is CheckResult.NOT_RUN]
    assert "the WAL archive keeps up with the server" in not_run
    assert before == {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    main.catalog.close()
