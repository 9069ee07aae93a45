"""What `pip install opskit` brings works in an empty directory, without the checkout."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.postgres.postmaster import free_port
from tests.support.command import output_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout without the network."""
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, ROOT],
        check=True,
        capture_output=True,
    )
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it; its dependencies are those of the tests' own environment."""
    environment = tmp_path_factory.mktemp("environment")
    # Without a pip of its own, which takes longer to install than all the rest.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment)]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
    ours, theirs = (
        sysconfig.get_path("purelib"),
        sysconfig.get_path("purelib", vars={"base": str(environment)}),
    )
    # Comes after what is installed there, and its own .pth files, one of which leads to the checkout, are not read.
    (Path(theirs) / "dependencies.pth").write_text(f"{ours}\n")
    for folder in ("share/jupyter", "etc/jupyter/jupyter_server_config.d"):
        place = environment / folder
        place.mkdir(parents=True, exist_ok=True)
        for entry in Path(sys.prefix, folder).iterdir():
            if not (place / entry.name).exists():  # of etc/jupyter the wheel brings a part
                (place / entry.name).symlink_to(entry)
    return environment


class Installation:
    """The command of the wheel, run in an empty directory."""

    def __init__(self, environment: Path, directory: Path) -> None:
        self.directory = directory
        self.command = environment / "bin" / "opskit"
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PG", "OPSKIT", "PYTHON", "JUPYTER", "XDG", "VIRTUAL_ENV"))
        }
        self.environment = {
            **kept,
            "HOME": str(directory),
            "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        }

    def __call__(self, *arguments: str) -> str:
        """The standard output of ``opskit <arguments>``, which has to succeed."""
        return output_of([str(self.command), *arguments], self.directory, self.environment)


@pytest.fixture(scope="module")
def opskit(installed: Path, base: Path) -> Iterator[Installation]:
    """The installed command in a directory of its own, with the demo that it started, which is stopped."""
    directory = base / f"wheel-{os.getpid()}"
    directory.mkdir(mode=0o755)
    installation = Installation(installed, directory)
    installation("demo")
    yield installation
    installation("demo", "--stop")
    shutil.rmtree(directory)


def test_wheel_carries_notebooks_and_runbooks(wheel: Path) -> None:
    """The wheel holds the package, every notebook and runbook, the licence, and nothing of the tests."""
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    (points,) = (name for name in names if name.endswith("entry_points.txt"))
    engine = "[papermill.engine]\nopskit = opskit.runbooks._engine:OpskitEngine"
    assert engine in archive.read(points).decode()
    for folder in ("notebooks", "runbooks"):
        for notebook in (ROOT / folder).glob("*.ipynb"):
            assert f"opskit/_shared/{folder}/{notebook.name}" in names
    assert {"opskit/metrics/grafana.json", "opskit/metrics/rules.yml"} <= set(names)
    assert "opskit/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    (enabled,) = (name for name in names if "/data/etc/jupyter/" in name)
    assert enabled.endswith("/jupyter_server_config.d/opskit.json")
    assert b'"opskit.jupyter": true' in archive.read(enabled)
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"opskit"}
    assert not [name for name in names if "test" in name or "bench" in name]


def test_wheel_backs_up_by_a_runbook(opskit: Installation) -> None:
    """Without the checkout, the demo starts and a runbook backs it up and is filed with its HTML."""
    opskit("runbook", "run", "scheduled_backup", "main")
    (backup,) = json.loads(opskit("backups", "main", "--json"))
    assert (backup["trigger"], backup["status"]) == ("scheduled", "complete")
    for suffix in (".ipynb", ".html"):
        assert len([*opskit.directory.glob(f"reports/main/*/*/*-scheduled_backup{suffix}")]) == 1
    assert "local_restore" in opskit("runbook", "list")


def test_wheel_opens_jupyterlab(opskit: Installation) -> None:
    """Without the checkout, `opskit lab` serves JupyterLab with the notebooks in it, and ends when it is told to."""
    port = free_port()
    log = opskit.directory / "lab.log"
    with log.open("wb") as output:
        lab = subprocess.Popen(
            [opskit.command, "lab", "--no-browser", f"--port={port}"],
            cwd=opskit.directory,
            env={**opskit.environment, "JUPYTER_TOKEN": "known"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        base = f"http://127.0.0.1:{port}"
        _wait_for(f"{base}/api/status?token=known", lab, log)
        listed = json.load(
            urllib.request.urlopen(f"{base}/api/contents/notebooks?token=known", timeout=30)
        )
        assert "backups.ipynb" in [entry["name"] for entry in listed["content"]]
        page = urllib.request.urlopen(f"{base}/lab?token=known", timeout=30).read()
        assert b"JupyterLab" in page
        assert b'"news": {"disabled": true}' in page
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(
                f"{base}/opskit/download/main/20200101T000000Z?token=known", timeout=30
            )
        assert b"cluster 'main' has no backup" in refused.value.read()
        refused.value.close()
    finally:
        os.killpg(lab.pid, signal.SIGTERM)
        lab.wait(30)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
