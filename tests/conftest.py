"""What tests share: real servers of every supported major, places for them, seeded randomness, settings.

``programs`` is parametrized over the majors; a test that is about one major alone says so by
``@pytest.mark.parametrize("programs", [18], indirect=True)``. Of the others the oldest and the newest major are always
run, those between only in the sweep, unless the test decides whether opskit works at all: ``@pytest.mark.every_major``.
"""

import gc
import json
import os
import random
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from opskit.config import Settings, load_settings
from opskit.errors import NotFoundError
from opskit.postgres.connection import SUPPORTED_MAJORS
from opskit.postgres.programs import Programs, find_programs
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.store import LocalStore
from tests.servers import (
    ServerFactory,
    fill,
    make_base_directory,
    other_sessions,
    remove_base_directory,
)
from tests.support.clusters import ClusterMaker, clusters
from tests.support.leftovers import leftovers, marked_environment

OPTIONAL_MAJOR = 15  # no wheel has it: required in CI, used elsewhere where it is found
LOG_LINES = 60
BASE = pytest.StashKey[Path]()
BEGUN = pytest.StashKey[float]()
LEFT = pytest.StashKey[list[str]]()

SettingsFactory = Callable[..., Settings]


def pytest_configure(config: pytest.Config) -> None:
    """Make the session's directory, or take the one that xdist's controller made; have processes waste no time."""
    # By Python's 700 it takes a tenth of the time; what was lost is still told, at the end.
    gc.set_threshold(50_000)
    # numpy starts a thread a core in every process that imports it
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A shell starts what it sends to the background with SIGINT ignored, and every process inherits that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    handed_over = getattr(config, "workerinput", {}).get("opskit_base")
    config.stash[BASE] = Path(handed_over) if handed_over else make_base_directory()
    config.stash[BEGUN] = time.time()
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # tmp_path outlives us
    os.environ.update(marked_environment(config.stash[BASE]))
    tempfile.tempdir = None  # it may have been looked up


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where the session's directory is."""
    node.workerinput["opskit_base"] = str(node.config.stash[BASE])


@pytest.hookimpl(trylast=True)  # when the workers have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail when the session has left anything on the machine."""
    config = session.config
    if not hasattr(config, "workerinput"):
        base = config.stash[BASE]
        config.stash[LEFT] = leftovers(base, config.stash[BEGUN], others=bool(other_sessions(base)))
        if config.stash[LEFT] and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Tell what was left."""
    if left := config.stash.get(LEFT, []):
        terminalreporter.section("left behind", red=True)
        for what in left:
            terminalreporter.line(what)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Clear away whatever workers left behind, however they ended."""
    if not hasattr(config, "workerinput") and BASE in config.stash:
        remove_base_directory(config.stash[BASE])


def pytest_report_header() -> str | None:
    """Say it when a major is left out."""
    if _left_out():
        return (
            f"PostgreSQL {OPTIONAL_MAJOR} is not installed: its tests are left out, CI runs them"
            f" (apt-get install postgresql-{OPTIONAL_MAJOR})"
        )
    return None


@pytest.hookimpl(tryfirst=True)  # before the marks are selected by
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave majors between to the sweep, and those that this machine need not have out; the long ones come first."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if _major(item) in SUPPORTED_MAJORS[1:-1] and not _decides(item):
            item.add_marker("sweep")
    if _left_out():
        out = [item for item in items if _major(item) == OPTIONAL_MAJOR]
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if _major(item) != OPTIONAL_MAJOR]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the servers' logs below a failure."""
    report = yield
    if report.failed:
        for server in _servers(item):
            if server.log.exists():
                lines = server.log.read_text(encoding="utf-8", errors="replace").splitlines()
                report.sections.append((f"log {server.log}", "\n".join(lines[-LOG_LINES:])))
    return report


@pytest.fixture(scope="session", params=SUPPORTED_MAJORS, ids=lambda major: f"pg{major}")
def programs(request: pytest.FixtureRequest) -> Programs:
    """The programs of one supported PostgreSQL after the other, as found; a missing one fails its tests."""
    try:
        return find_programs(request.param)
    except NotFoundError as error:
        missing = f"{error.message}\n{error.hint}"
    pytest.fail(missing, pytrace=False)


@pytest.fixture(scope="session")
def base(request: pytest.FixtureRequest) -> Path:
    """The session's directory, which every account may enter."""
    return request.config.stash[BASE]


@pytest.fixture
def scratch(base: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory for one test that every account may enter, unlike ``tmp_path``; removed with all that is in it."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[
        :10
    ]  # a tablespace below it has 100 bytes for its path
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def server(programs: Programs, scratch: Path, base: Path) -> Iterator[ServerFactory]:
    """Makes servers of one test's own: ``server()``, ``server({"max_wal_senders": "0"}, start=False)``."""
    factory = ServerFactory(programs, scratch / "servers", base / "templates")
    try:
        yield factory
    finally:
        factory.stop()


@pytest.fixture(scope="session")
def shared_server(programs: Programs, base: Path) -> Iterator[LocalServer]:
    """A filled server that tests only read; see `tests.servers.fill`."""
    directory = Path(tempfile.mkdtemp(prefix=f"shared-{programs.major}-", dir=base))
    directory.chmod(0o755)
    factory = ServerFactory(programs, directory, base / "templates")
    try:
        filled = factory()
        fill(filled)
        yield filled
        slots = filled.query("SELECT slot_name FROM pg_replication_slots").rows
        assert slots == [], "a test left a slot behind"
    finally:
        factory.stop()
        shutil.rmtree(directory)


@pytest.fixture
def seed() -> random.Random:
    """Randomness that a failed test's output tells how to repeat."""
    number = int(os.environ.get("OPSKIT_TEST_SEED") or secrets.randbelow(2**32))
    print(f"repeat with OPSKIT_TEST_SEED={number}")
    return random.Random(number)


@pytest.fixture
def settings(scratch: Path) -> SettingsFactory:
    """Makes settings, and the ``opskit.toml`` that says them, for a server: ``settings(server, cluster="main")``.

    Repository, catalog and reports are below the test's directory, or below `directory`.
    """

    def make(
        server: LocalServer, *, cluster: str = "main", directory: Path = scratch / "opskit"
    ) -> Settings:
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "opskit.toml"
        # A JSON string is a TOML string.
        file.write_text(
            f"""
[repository]
url = {json.dumps((directory / "repository").as_uri())}
[catalog]
url = "sqlite:///opskit.db"
[reports]
directory = "reports"
[postgres]
programs = [{json.dumps(str(server.programs.directory))}]
[clusters.{cluster}]
conninfo = {json.dumps(server.conninfo())}
""",
            encoding="utf-8",
        )
        return load_settings(file)

    return make


@pytest.fixture
def cluster(settings: SettingsFactory) -> Iterator[ClusterMaker]:
    """Makes the configured cluster ``main`` as seen from a server: ``cluster(server)``; one repository for all."""
    with clusters(settings) as make:
        yield make


@pytest.fixture
def repository(scratch: Path) -> Repository:
    """An empty repository, where ``settings`` says that it is."""
    return Repository(LocalStore(scratch / "opskit/repository"))


def _left_out() -> bool:
    if os.environ.get("CI"):
        return False
    try:
        find_programs(OPTIONAL_MAJOR)
    except NotFoundError:
        return True
    return False


def _major(item: pytest.Item) -> Any:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("programs") if callspec is not None else None


def _decides(item: pytest.Item) -> bool:
    only = [mark for mark in item.iter_markers("parametrize") if mark.args[0] == "programs"]
    return bool(only) or item.get_closest_marker("every_major") is not None


def _servers(item: pytest.Item) -> list[LocalServer]:
    found: list[LocalServer] = []
    for value in (getattr(item, "funcargs", None) or {}).values():
        if isinstance(value, LocalServer):
            found.append(value)
        elif isinstance(value, ServerFactory):
            found += value.servers
    return found
