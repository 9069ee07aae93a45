"""The page on every report, and the table of the same."""

import base64
import hashlib
import os
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from opskit.cli import main as command
from opskit.cluster import Cluster
from opskit.errors import StoreError
from opskit.reports import filed, index
from opskit.reports.index import read_reports, update_index
from opskit.reports.index_page import render_index
from opskit.reports.plot import BYTES, SECONDS, Point, plot
from opskit.reports.report import Files, Report
from opskit.reports.tables import reports_table
from opskit.runbooks import Outcome, make_index
from opskit.runbooks import _filing as filing
from opskit.runbooks._lost import make_room, note_end
from opskit.runbooks._outcome import Interruption
from opskit.runbooks._report import file_report
from tests.notebooks.books import write_settings
from tests.support.reports import BEGIN, run_of, trace, write_report
from tests.unit.test_runbook_outcome import NOW, _order, executed
from tests.unit.test_runbook_page import EVIL, Page

BACKUP = {
    "name": "20261122T020000Z",
    "started_at": "2026-11-22T02:00:00.000Z",
    "duration_seconds": 61.0,
    "stored_bytes": 1_500_000_000,
}


def shown(reports: Path) -> Page:
    """The page as it is."""
    return Page((reports / "index.html").read_text(encoding="utf-8"))


def test_every_way_to_end_is_in_the_index(tmp_path: Path) -> None:
    """Each run that is filed is there at once, with its outcome and its reason, and what goes on or was lost, too."""
    import nbformat

    reports = tmp_path / "reports"
    ways = {
        "passes": None,
        "fails": None,
        "aborted": Interruption(outcome=Outcome.ABORTED, reason="SIGTERM asked for the end"),
        "died": Interruption(outcome=Outcome.DIED, reason="the kernel died"),
    }
    for name, interruption in ways.items():
        desk = filing.reserve(reports, _order(tmp_path, runbook=name))
        book = executed(finished="failed" if name == "fails" else "passed")
        nbformat.write(book, desk.work / filing.WORK)
        file_report(desk, interruption, NOW + timedelta(seconds=9))
    with (
        trace(reports, run_of(1, runbook="goes_on"), held=True),
        trace(reports, run_of(2, runbook="lost"), held=False),
        trace(reports, run_of(3, runbook="elsewhere"), held=False, host="another"),
    ):
        found = {report.runbook: report for report in update_index(reports)}
        page = shown(reports)
    told = {name: (report.outcome, report.reason) for name, report in found.items()}
    assert told == {
        "passes": ("passed", ""),
        "fails": ("failed", "it did not hold"),
        "aborted": ("aborted", "SIGTERM asked for the end"),
        "died": ("died", "the kernel died"),
        "goes_on": ("running", ""),
        "lost": ("died", "every process of the run was lost"),
        "elsewhere": (
            "unknown",
            "it began on another; whether it goes on cannot be told from here",
        ),
    }
    assert found["passes"].duration == timedelta(seconds=9)
    assert [row["class"] for row in page.all("tr") if "class" in row].count("died") == 2
    links = {link["href"] for link in page.all("a")}
    for name in ways:
        assert {f"{found[name].name}{s}" for s in (".html", ".ipynb", ".json")} <= links
        assert (reports / f"{found[name].name}.html").exists()
    assert {found[name].files for name in ways} == {Files.AS_RECORDED}


@pytest.mark.parametrize(
    ("interruption", "told"),
    [
        (Interruption(outcome=Outcome.ABORTED, reason="it took too long"), ("aborted", "it took")),
        (None, ("unknown", "its report is not filed yet")),
    ],
)
def test_a_run_that_could_not_be_filed_is_told_as_it_ended(
    tmp_path: Path, interruption: Interruption | None, told: tuple[str, str]
) -> None:
    """A run that ended where no report found room was not lost: what it noted of its end is told."""
    desk = filing.reserve(tmp_path, _order(tmp_path))
    make_room(desk)
    note_end(desk, interruption)
    os.close(desk.lock)
    [report] = read_reports(tmp_path)
    assert report.outcome == told[0] and told[1] in report.reason


def test_a_lost_run_is_filed_when_the_index_is_asked_for(tmp_path: Path) -> None:
    """No run goes on for ever: the trace of one whose every process is gone becomes a report."""
    reports = tmp_path / "reports"
    desk = filing.reserve(reports, _order(tmp_path))
    assert [report.outcome for report in read_reports(reports)] == ["running"]
    os.close(desk.lock)
    page, [lost] = make_index(reports)
    assert (lost.outcome, lost.suffixes) == ("died", (".html", ".ipynb", ".json"))
    assert (
        page == reports / "index.html" and "every process of the run was lost" in page.read_text()
    )
    assert not desk.work.exists()


def _same_length(path: Path) -> None:
    """Another content that no size and no time of modification gives away."""
    before, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda path: _same_length(path), "the notebook is not what its record says"),
        (
            lambda path: _same_length(path.with_suffix(".html")),
            "the page is not what its record says",
        ),
        (lambda path: path.unlink(), "without its notebook, which its record knows"),
        (
            lambda path: path.with_suffix(".html").unlink(),
            "without its page, which its record knows",
        ),
        (lambda path: path.with_suffix(".json").write_text("{}"), "is no record of a report"),
    ],
)
def test_files_that_are_not_as_recorded_are_told(
    tmp_path: Path, change: Callable[[Path], object], told: str
) -> None:
    """What was changed after the index was made is found the next time, and stands on top of the page."""
    notebook = write_report(tmp_path, run_of())
    write_report(tmp_path, run_of(1))
    assert {report.files for report in update_index(tmp_path)} == {Files.AS_RECORDED}
    assert "not as recorded" not in shown(tmp_path).text.split("Every run")[0]
    change(notebook)
    changed = update_index(tmp_path)[1]
    assert changed.files is Files.CHANGED and told in changed.changed
    assert "The files of 1 report are not as recorded." in shown(tmp_path).text
    assert told in shown(tmp_path).text


def test_reports_without_a_record_are_read_from_their_notebook(tmp_path: Path) -> None:
    """What was filed before there were records is listed, and said to have none; a strange file is no report."""
    old = write_report(tmp_path, run_of(outcome="failed", reason="old"), recorded=False)
    mute = write_report(tmp_path, run_of(1), recorded=False)
    mute.write_text("{}")
    (old.parent / "notes.ipynb").write_text("{}")
    second, first = update_index(tmp_path)
    assert (first.outcome, first.reason, first.files) == ("failed", "old", Files.NO_RECORD)
    assert (second.outcome, second.runbook) == ("unknown", "scheduled_backup")


def test_reports_of_another_account_are_not_called_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may not be read is listed by its name, without a judgement, and read when it may be."""
    notebook = write_report(tmp_path, run_of())
    with monkeypatch.context() as patched:
        patched.setattr(
            os, "access", lambda path, mode: Path(path) != notebook
        )  # root may read all
        [report] = update_index(tmp_path)
    assert (report.outcome, report.files) == ("unknown", Files.NOT_READABLE)
    [report] = update_index(tmp_path)
    assert (report.outcome, report.files) == ("passed", Files.AS_RECORDED)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes into what belongs to others")
def test_root_leaves_the_index_to_its_owner(tmp_path: Path) -> None:
    """The account that runs the runbooks goes on after root has made the index once."""
    os.chown(tmp_path, 12345, 12345)
    update_index(tmp_path)
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {12345}


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.sweep)])
def test_only_what_is_new_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """With many reports, one more is filed by reading one more; all of them are in the page."""
    read: list[str] = []
    reading = filed._report

    def counted(directory: Path, name: str, signature: Any) -> Report:
        read.append(name)
        return reading(directory, name, signature)

    monkeypatch.setattr(filed, "_report", counted)
    for number in range(count):
        write_report(tmp_path, run_of(number))
    assert len(update_index(tmp_path)) == len(read) == count
    read.clear()
    added = write_report(tmp_path, run_of(count))
    assert len(update_index(tmp_path)) == count + 1
    assert read == [added.relative_to(tmp_path).as_posix().removesuffix(".ipynb")]
    assert (tmp_path / "index.html").read_text().count("<tr ") == count + 1
    read.clear()
    assert len(read_reports(tmp_path, "main")) == count + 1
    assert read == []
    (tmp_path / ".index.json").write_text('{"format": 1, "reports": {"x": 3}}')
    assert len(update_index(tmp_path)) == len(read) == count + 1  # what is kept may be lost


def test_who_files_at_once_loses_nothing(tmp_path: Path) -> None:
    """Of 24 that file a report each and make the index, every one is in it when the last has ended."""

    def file(number: int) -> None:
        write_report(tmp_path, run_of(number))
        update_index(tmp_path)

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(file, range(24)))
    assert (tmp_path / "index.html").read_text().count("<tr ") == 24
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir() if p.is_file()}
    assert modes == {"index.html": 0o600, ".index.json": 0o600, ".index.lock": 0o600}


def test_an_index_that_cannot_be_written_takes_no_report_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is filed all the same, and whoever asks for the page is told why it is not there."""
    reports = tmp_path / "reports"
    desk = filing.reserve(reports, _order(tmp_path))
    (reports / "index.html").mkdir()
    file_report(desk, None, NOW)
    assert desk.notebook.exists() and not desk.work.exists()
    with pytest.raises(StoreError, match="cannot be written to"):
        update_index(reports)
    monkeypatch.setattr(index, "_PATIENCE_SECONDS", 0.1)
    with index._locked(reports / ".index.lock"), pytest.raises(StoreError, match="has been held"):
        update_index(reports)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with a bit of everything, in which people wrote what would be markup."""
    reports = tmp_path_factory.mktemp("reports")
    write_report(reports, run_of(0, backups=[BACKUP]))
    later = {**BACKUP, "name": "20261123T020000Z", "started_at": "2026-11-23T02:00:00Z"}
    write_report(reports, run_of(24, backups=[later, {"name": EVIL}]))
    write_report(reports, run_of(1, outcome="failed", reason=EVIL, actor=EVIL, host=EVIL))
    write_report(reports, run_of(2, cluster="shop-eu", outcome=EVIL))
    update_index(reports)
    return (reports / "index.html").read_text(encoding="utf-8")


def test_it_asks_no_network(source: str) -> None:
    """Nothing comes from anywhere; the browser is told to run the one script that stands in the page, and no other."""
    page = Page(source)
    for tag in ("iframe", "object", "embed", "base", "link", "form", "img", "audio", "video"):
        assert page.all(tag) == []
    for _, attributes in page.elements:
        assert not {name for name in attributes if name.startswith("on")}
        assert not re.match(r"\s*(https?:)?//", attributes.get("href", ""))
    styles = "".join(re.findall(r"<style>(.*?)</style>", source, re.DOTALL))
    assert styles and not re.search(r"url\(|@import|https?:", styles)
    [script] = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy


def test_it_is_one_document_with_one_headline(source: str) -> None:
    """Screen readers find the language, one H1, headings of columns and rows, and what each chart shows."""
    page = Page(source)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert [head["scope"] for head in page.all("th")].count("row") == 4
    labels = [chart["aria-label"] for chart in page.all("svg")]
    assert labels[0] == (
        "Size of backups: 2 points, from 1.5 GB at 2026-11-22 02:00:00 UTC"
        " to 1.5 GB at 2026-11-23 02:00:00 UTC"
    )
    assert page.text.count("<script src=") >= 3  # what people wrote is text
    assert [c["class"] for c in page.all("section")] == ["cluster", "cluster"]


def test_times_have_the_local_time_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """UTC first, then what the clock on the wall said."""
    import time

    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    page = render_index(
        [
            Report(
                name="main/2026/11/20261122T020000Z-x",
                runbook="x",
                cluster="main",
                outcome="passed",
                reason="",
                started_at=BEGIN,
            )
        ],
        datetime(2026, 11, 22, 14, tzinfo=UTC),
    )
    monkeypatch.undo()
    time.tzset()
    assert "2026-11-22 02:00:00 UTC (07:30:00 IST)" in page
    assert "Made " in page and "2026-11-22 14:00:00 UTC (19:30:00 IST)" in page


def test_an_empty_directory_has_a_page_too(tmp_path: Path) -> None:
    """It says what to do."""
    assert update_index(tmp_path) == []
    assert "No runbook was run yet" in shown(tmp_path).text


def test_plots_of_nothing_and_of_zeros_are_drawn() -> None:
    """No value, one value and values of zero are no reason to fail."""
    for points in ([], [Point(BEGIN, 0, "a")], [Point(BEGIN, 3, "a"), Point(NOW, 10**13, "b")]):
        for steps in (BYTES, SECONDS):
            assert plot("Size", points, str, steps).startswith("<svg")


def test_the_table_keeps_its_columns(tmp_path: Path) -> None:
    """Columns, their order and types are the same for many reports and for none."""
    write_report(tmp_path, run_of(outcome="failed", reason="no"))
    with trace(tmp_path, run_of(1), held=True):
        full = reports_table(read_reports(tmp_path), tmp_path)
    empty = reports_table([], tmp_path)
    assert list(full.dtypes.items()) == list(empty.dtypes.items())
    assert list(full.columns[:6]) == [
        *("started_at", "cluster", "runbook", "outcome", "reason", "duration")
    ]
    running, failed = full.to_dict("records")
    assert running["outcome"] == "running" and pd.isna(running["files"])
    assert pd.isna(running["duration"]) and pd.isna(running["notebook"])
    assert failed["duration"] == timedelta(seconds=134) and failed["files"] == "as recorded"
    assert (failed["checks_passed"], failed["checks_failed"]) == (1, 0)
    assert Path(failed["html"]).exists() and Path(failed["record"]).exists()


def test_the_command_and_the_api_tell_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``opskit reports`` lists what ``main.reports()`` gives; ``runbook index`` ends with 1 when files differ."""
    import json

    settings = write_settings(tmp_path, ("main", "other"))
    reports = settings.reports_directory
    notebook = write_report(reports, run_of())
    write_report(reports, run_of(1, cluster="other", outcome="died", reason="the kernel died"))
    given = ["--config", str(settings.file)]
    assert command([*given, "reports", "main", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    [same] = Cluster("main", settings).reports().to_dict("records")
    assert (row["notebook"], row["duration_seconds"]) == (same["notebook"], 134.0)
    assert command([*given, "reports"]) == 0
    assert "the kernel died" in capsys.readouterr().out
    assert command([*given, "reports", "nobody"]) == 3
    assert command([*given, "runbook", "index"]) == 0
    assert capsys.readouterr().out.strip() == str(reports / "index.html")
    notebook.write_text("{}")
    assert command([*given, "runbook", "index"]) == 1
    assert "the notebook is not what its record says" in capsys.readouterr().err
