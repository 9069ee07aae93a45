"""The restore panel without a browser: from a moment on the timeline to a copy that is asked, moved on and stopped."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit.cluster import Cluster
from opskit.runbooks import find_runbook
from opskit.runbooks._masters import read_master
from opskit.widgets import RestorePanel
from opskit.widgets._copies import CopyCard
from opskit.widgets._goal import BACKUP, LATEST, LSN
from opskit.widgets._panel import Panel
from tests.conftest import SettingsFactory
from tests.notebooks.panels import is_quiet, said, wait_until
from tests.servers import ServerFactory
from tests.support.streams import caught_up, streaming

on_one_major = pytest.mark.parametrize("programs", [18], indirect=True)


@pytest.fixture
def story(server: ServerFactory, settings: SettingsFactory) -> Iterator[tuple[Cluster, datetime]]:
    """A cluster with WAL behind its backup: a table of 100 rows, a moment, then 200 rows, and no server any more."""
    source = server(wal_segment_megabytes=1)
    main = Cluster("main", settings(source))
    source.query("CREATE TABLE orders AS SELECT generate_series(1, 50) AS i")
    with streaming(source, main.repository):
        main.create_backup()
        source.query("INSERT INTO orders SELECT generate_series(51, 100)")
        moment: datetime = source.query("SELECT clock_timestamp()").rows[0][0]
        source.query("INSERT INTO orders SELECT generate_series(101, 200)")
        source.query("SELECT pg_create_restore_point('all of them')")
        source.query("INSERT INTO orders SELECT generate_series(201, 300)")
        caught_up(source, lambda: main.repository.known_wal("main"))
    source.stop()
    yield main, moment.astimezone(UTC)
    for copy in main.copies():
        copy.stop()
    main.catalog.close()


def made(main: Cluster, folder: Path, closing: Callable[[Panel], None]) -> RestorePanel:
    """A panel that knows what can be restored."""
    panel = RestorePanel(Cluster("main", main.settings), folder)
    closing(panel)
    wait_until(lambda: bool(panel.timeline._picture["first"]), "the timeline is known")
    return panel


def asked(card: CopyCard, sql: str) -> str:
    """What the copy's query box answers."""
    card.query.output.value = ""
    card.query.sql.value = sql
    card.query.run.click()
    wait_until(
        lambda: card.query.output.value not in ("", '<p class="opskit-empty">Asking…</p>'),
        "the copy has answered",
    )
    return str(card.query.output.value)


def only(panel: RestorePanel) -> CopyCard:
    """The panel's only copy."""
    [card] = panel.copies.cards.values()
    return card


def active(card: CopyCard) -> str:
    """What the copy's server works on."""
    found = card.copy.attached().query("SELECT query FROM pg_stat_activity WHERE state = 'active'")
    return " ".join(found["query"])


@pytest.mark.sweep  # a browser does the main way in every run
@on_one_major
def test_from_a_moment_to_a_copy(
    story: tuple[Cluster, datetime], folder: Path, closing: Callable[[Panel], None]
) -> None:
    """The moment gives a plan, the plan a copy that is held there; it answers, is found again, moves on, and stops."""
    main, moment = story
    panel = made(main, folder, closing)
    assert panel.restore.disabled and "Choose a moment" in panel.planning.widget.value
    panel.timeline.wish(moment)
    panel.pause.value = True
    wait_until(lambda: not panel.restore.disabled, "the plan is known")
    plan = panel.planning.widget.value
    assert "the newest backup that ends before 2" in plan and "none is missing" in plan
    assert "unknown: nothing was restored" in plan and "pauses there" in plan
    assert panel.restore.description.startswith(f"Restore main to {moment:%Y-%m-%d %H:%M:%S}")
    place = folder / f"main-{moment:%Y%m%dT%H%M%SZ}"
    assert panel.into.value == str(place)
    panel.restore.click()
    wait_until(lambda: is_quiet(panel) and bool(panel.copies.cards), "it is restored")
    assert f"Restored into {place}" in said(panel)
    wait_until(lambda: "about" in panel.planning.widget.value, "the next one is predicted")
    assert panel.into.value == f"{place}-2"

    card = only(panel)
    assert card.query.widget.layout.display == "none"
    card.start.click()
    wait_until(lambda: is_quiet(panel) and not card.stop.disabled, "the copy runs")
    assert "is running" in said(panel)
    assert "psql &quot;host=" in card.message.value and "paused there" in card.message.value
    assert "<b>Copy of main at 2" in card.message.value  # the time that was asked for
    assert (
        "<td" in asked(card, "SELECT count(*) FROM orders") and ">100<" in card.query.output.value
    )
    refused = asked(card, "SELECT <b> FROM orders")
    assert 'role="alert"' in refused and "syntax error" in refused and "<b> FROM" not in refused

    again = made(main, folder, closing)  # as after the kernel was restarted
    card = only(again)
    wait_until(lambda: not card.stop.disabled, "the running copy is found again")
    card.target.value = "all of them"
    card.advance.click()
    wait_until(lambda: is_quiet(again) and not card.stop.disabled, "the copy has moved on")
    assert ">200<" in asked(card, "SELECT count(*) FROM orders")
    card.target.value = "yesterday or so"
    card.advance.click()
    wait_until(lambda: "the archive holds no restore point" in said(again), "it is told why not")
    wait_until(lambda: is_quiet(again) and not card.stop.disabled, "the copy is as it was")
    card.promote.click()
    wait_until(
        lambda: is_quiet(again) and card._moving.layout.display == "none", "the copy is promoted"
    )
    wait_until(lambda: not card.stop.disabled, "the copy runs")
    assert "returned no rows" in asked(card, "CREATE TABLE mine (i int)")
    assert "The first 200 rows; there are more" in asked(
        card, "SELECT generate_series(1, 1000000000)"
    )
    card.query.sql.value = "SELECT pg_sleep(600)"
    card.query.run.click()
    wait_until(lambda: "pg_sleep" in active(card), "the query runs")
    card.query.run.click()
    wait_until(lambda: "canceling statement" in card.query.output.value, "it was cancelled")
    card.stop.click()
    wait_until(lambda: not card.start.disabled, "the copy is stopped")
    assert not main.copies()[0].files.is_running
    kinds = list(main.operations()["kind"])
    assert kinds == ["advance", "advance", "advance", "start", "restore", "backup"]


@on_one_major
def test_other_goals_and_what_cannot_be(
    story: tuple[Cluster, datetime],
    folder: Path,
    closing: Callable[[Panel], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backup's end and the archive's end are planned, what is not there is refused in words; all is taught."""
    main, moment = story
    panel = made(main, folder, closing)
    panel.goal.way.value = LSN
    panel.goal.text.value = "F/FFFFFFFF"
    wait_until(lambda: "cannot be restored" in panel.planning.widget.value, "it is refused")
    assert 'class="opskit-hint"' in panel.planning.widget.value and panel.restore.disabled
    panel.goal.text.value = "nonsense"
    assert "nonsense" in panel.planning.widget.value and panel.restore.disabled
    panel.goal.way.value = LATEST
    wait_until(lambda: not panel.restore.disabled, "the plan is known")
    assert panel.restore.description == "Restore main to the archive's end"
    panel.into.value = str(folder)
    (folder / "something").touch()
    wait_until(lambda: "is not an empty directory" in panel.planning.widget.value, "it is refused")
    panel.into.value = ""
    panel.goal.way.value = BACKUP
    wait_until(lambda: not panel.restore.disabled, "the plan is known")
    backup = main.backup().name
    assert panel.restore.description == f"Restore main to backup {backup}"
    assert panel.into.value == str(folder / f"main-{backup}") and panel.pause.disabled

    assert _taught(panel, folder, 1) == ("local_restore", {"cluster": "main", "backup": backup})
    panel.goal.way.value = "moment"
    panel.timeline.wish(moment)
    wait_until(lambda: not panel.restore.disabled, "the plan is known")
    name, values = _taught(panel, folder, 1)
    assert name == "point_in_time_restore"
    assert datetime.fromisoformat(values["at"]) == moment
    monkeypatch.setenv("OPSKIT_CONFIG", str(main.settings.file))
    panel.teach.python.click()
    panel.teach.python.click()
    found: dict[str, Any] = {}
    exec(panel.teach.code.value, found)
    with found["copy"].started() as server:
        assert server.query("SELECT count(*) FROM orders").iat[0, 0] == 100
    wait_until(lambda: bool(panel.copies.cards), "the panel finds what others restored")


def _taught(panel: RestorePanel, folder: Path, number: int) -> tuple[str, dict[str, Any]]:
    """The runbook that *Open as runbook* writes, and the parameters that are not its defaults."""
    before = set(folder.glob("*.ipynb"))
    panel.teach.runbook.click()
    [written] = set(folder.glob("*.ipynb")) - before
    book = read_master(written)
    defaults = {p.name: p.default for p in find_runbook(written.stem).parameters}
    given = {p.name: p.default for p in book.parameters}
    return written.stem, {k: v for k, v in given.items() if k == "cluster" or v != defaults[k]}
