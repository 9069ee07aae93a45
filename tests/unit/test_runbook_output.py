"""What a kernel sends becomes outputs without secrets; and how a run ended is noted where a disk is full."""

import os
import signal
from pathlib import Path
from typing import Any

import nbformat
import pytest

from opskit.model.secrets import Scrubber
from opskit.runbooks import Outcome
from opskit.runbooks import _filing as filing
from opskit.runbooks._lost import LOST, make_room, note_end, noted_end
from opskit.runbooks._outcome import Interruption
from opskit.runbooks._output import Messages, tidy, write_whole
from opskit.runbooks._record import CHECK
from opskit.runbooks._secrets import run_scrubber
from opskit.runbooks._stop import Stopped, StopRequest, stop_by_signals
from tests.notebooks.books import notebook

SECRET = "planted-hunter2"
MESSAGES = Messages(Scrubber({SECRET, "passed"}))


def stream(name: str, text: str) -> dict[str, Any]:
    """What the kernel sends when something is printed."""
    return {"msg_type": "stream", "content": {"name": name, "text": text}}


def test_pieces_of_a_secret_are_seen_whole() -> None:
    """A secret that is printed letter by letter, while the other stream prints too, is hidden."""
    outputs: list[Any] = []
    for number, letter in enumerate(f"it is {SECRET}!"):
        for message in (stream("stderr", letter), stream("stdout", f"{number} ")):
            MESSAGES.scrub(message)
            if MESSAGES.append(outputs, message) is None:
                outputs.append(nbformat.v4.new_output("stream", **message["content"]))
    assert [(o.name, o.text) for o in outputs] == [
        ("stderr", "it is ***!"),
        ("stdout", "".join(f"{number} " for number in range(len(SECRET) + 7))),
    ]


def test_what_is_displayed_is_scrubbed_by_its_kind() -> None:
    """Texts, data and tracebacks are; pictures are not read, and our own records keep what programs read."""
    picture = "iVBORw0KGgo" + SECRET
    data = {
        "text/html": f"<b>{SECRET}</b>",
        "application/json": {"password": "x", "rows": [SECRET]},
        "image/png": picture,
        CHECK: [{"what": f"{SECRET} passed", "result": "passed"}],
    }
    message = {"msg_type": "display_data", "content": {"data": data, "metadata": {}}}
    MESSAGES.scrub(message)
    shown: Any = message["content"]
    assert shown["data"] == {
        "text/html": "<b>***</b>",
        "application/json": {"password": "***", "rows": ["***"]},
        "image/png": picture,
        CHECK: [{"what": "*** ***", "result": "passed"}],
    }
    traceback = {"ename": "ValueError", "evalue": SECRET, "traceback": [f"at {SECRET}", "b"]}
    message = {"msg_type": "error", "content": traceback}
    MESSAGES.scrub(message)
    assert message["content"] == {
        "ename": "ValueError",
        "evalue": "***",
        "traceback": ["at ***", "b"],
    }
    status: dict[str, Any] = {"msg_type": "status", "content": {"execution_state": "idle"}}
    MESSAGES.scrub(status)
    assert status["content"] == {"execution_state": "idle"}


def test_a_secret_in_a_source_is_hidden() -> None:
    """Somebody may have written it into the master."""
    book = notebook(f"connect({SECRET!r})")
    tidy(book, Scrubber({SECRET}))
    assert book.cells[-1].source == "connect('***')"


def test_a_run_knows_the_secrets_of_its_surroundings(tmp_path: Path) -> None:
    """Those of the environment, of the password file and of the service files."""
    (tmp_path / ".pgpass").write_text("db:5432:*:me:from-pgpass\n")
    (tmp_path / ".pg_service.conf").write_text("[main]\npassword=from-service\n")
    system = tmp_path / "etc"
    system.mkdir()
    (system / "pg_service.conf").write_text("[main]\npassword=from-system\n")
    environment = {
        "HOME": str(tmp_path),
        "PGSYSCONFDIR": str(system),
        "MY_TOKEN": "from-environment",
    }
    told = "from-pgpass from-service from-system from-environment from-nowhere"
    assert run_scrubber(environment).text(told) == "*** *** *** *** from-nowhere"
    assert run_scrubber({"PGPASSFILE": str(tmp_path / "none")}).text(told) == told


def test_a_file_is_its_owners_and_whole(tmp_path: Path) -> None:
    """A file that was readable by all becomes its owner's; one that cannot be written stays as it was."""
    file = tmp_path / "out.ipynb"
    file.write_text("before")
    file.chmod(0o644)
    write_whole(file, "after")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("after", 0o600)
    with pytest.raises(OSError):
        write_whole(tmp_path / "none" / "out.ipynb", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["out.ipynb"]


@pytest.mark.parametrize(
    "ended", [None, Interruption(outcome=Outcome.DIED, reason="there was no room")]
)
def test_how_a_run_ended_is_noted(tmp_path: Path, ended: Interruption | None) -> None:
    """Whoever files the report of a run that could not be filed knows how it ended; without a note, it was lost."""
    order = {
        "cluster": "main",
        "runbook": "small",
        "started_at": "2026-11-22T14:03:05Z",
        "master": str(tmp_path / "none"),
    }
    desk = filing.reserve(tmp_path / "reports", order)
    assert noted_end(desk) == LOST
    make_room(desk)
    assert noted_end(desk) == LOST
    before = os.fstat(desk.lock).st_blocks
    note_end(desk, ended)
    assert noted_end(desk) == ended
    assert os.fstat(desk.lock).st_blocks == before
    note_end(
        desk, Interruption(outcome=Outcome.DIED, reason="x" * 5000)
    )  # no room: the last one stays
    assert noted_end(desk) == ended
    desk.clear()


def test_a_signal_that_asks_for_the_end_is_handed_on() -> None:
    """Who is called as a library gives signals back, and the one that came to whom it was for."""
    came: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: came.append(number))
    try:
        with stop_by_signals(signal.SIGHUP) as stop:
            stop.check()
            signal.raise_signal(signal.SIGHUP)
            assert came == []
            with pytest.raises(Stopped):
                stop.check()
        assert came == [signal.SIGHUP]
        stop.ask(signal.SIGTERM)
        assert stop.asked is signal.SIGHUP  # the first one
    finally:
        signal.signal(signal.SIGHUP, before)
    assert StopRequest().asked is None
