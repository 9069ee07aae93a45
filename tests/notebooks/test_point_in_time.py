"""The runbook that goes back to just before a mistake, on a real server."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import nbformat
import pytest

from opskit.cluster import Cluster
from opskit.model.target import time_text
from opskit.postgres.server import LocalServer
from opskit.runbooks import CheckResult, Outcome, RunResult, run_runbook
from tests.conftest import SettingsFactory
from tests.servers import ServerFactory
from tests.support.streams import caught_up, streaming

BOOK = "point_in_time_restore"


@pytest.fixture
def source(server: ServerFactory) -> LocalServer:
    """A server with a table that will be missed."""
    made = server(wal_segment_megabytes=1)
    made.query("CREATE TABLE precious AS SELECT generate_series(1, 1234) AS i")
    return made


@pytest.fixture
def main(source: LocalServer, settings: SettingsFactory) -> Iterator[Cluster]:
    """Its cluster."""
    cluster = Cluster("main", settings(source))
    yield cluster
    cluster.catalog.close()


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_dropped_table_comes_back_by_the_runbook(
    source: LocalServer, main: Cluster, scratch: Path
) -> None:
    """A run to just before DROP TABLE shows the table with every row; one to the archive's end shows what is now."""
    with streaming(source, main.repository):
        main.create_backup()
        source.query("INSERT INTO precious VALUES (1235)")
        before: datetime = source.query("SELECT clock_timestamp()").rows[0][0]
        source.query("DROP TABLE precious")
        source.query("CREATE TABLE afterwards AS SELECT generate_series(1, 77) AS i")
        caught_up(source, lambda: main.repository.known_wal("main"))
    source.stop()  # production need not be there
    place = scratch / "copy"
    given = {"at": time_text(before).replace(" UTC", "Z"), "directory": str(place)}
    back = run_runbook(main.settings, BOOK, "main", {**given, "keep": "true"})
    assert_passed(back)
    assert "recovery stopping before commit" in detail(back, "recovery reached the target")
    assert "to stop before" in detail(back, "it replayed the log up to where the plan says")
    assert detail(back, "no transaction behind the target is in the copy")
    told = text(back)
    assert "1,235" in told and "afterwards" not in told
    assert "; the target is 20" in told  # the chart
    with main.copy(place).started() as copy:
        assert copy.server.query("SELECT count(*) FROM precious").rows == [(1235,)]

    now = run_runbook(main.settings, BOOK, "main")
    assert_passed(now)
    assert "the last one" in detail(now, "it replayed the log up to where the plan says")
    told = text(now)
    assert "afterwards" in told and "77" in told and "1,235" not in told


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_target_out_of_reach_ends_the_run_before_anything_is_done(
    main: Cluster, scratch: Path
) -> None:
    """Without archived WAL the run fails at its preconditions, and says what to do."""
    main.create_backup()
    place = scratch / "nowhere"
    result = run_runbook(main.settings, BOOK, "main", {"directory": str(place)})
    assert result.outcome is Outcome.FAILED
    [check] = result.checks
    assert (check.what, check.result) == ("target", CheckResult.FAILED)
    assert "does not lead on from backup" in check.detail
    assert "opskit wal stream main" in check.detail
    assert not place.exists()


def assert_passed(result: RunResult) -> None:
    """It passed, and every check of it was made."""
    assert result.passed, result.reason
    assert {check.result for check in result.checks} == {CheckResult.PASSED}


def detail(result: RunResult, what: str) -> str:
    """What a check found."""
    [check] = [check for check in result.checks if check.what == what]
    return check.detail


def text(result: RunResult) -> str:
    """All that the executed notebook shows, as text."""
    cells = nbformat.read(result.notebook, as_version=4).cells
    outputs = [o for c in cells if c.cell_type == "code" for o in c.outputs if "data" in o]
    return "\n".join(o.data["text/plain"] for o in outputs)
