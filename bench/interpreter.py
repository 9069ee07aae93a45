"""opskit as PostgreSQL runs it: from the account of the server, which may not reach the Python that runs the bench."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from bench.place import PROJECT, Place
from opskit.operations.recover import fetching_command

_LEFT_OUT = shutil.ignore_patterns("site-packages", "test", "idlelib", "lib2to3", "tkinter")


def recovering_command(place: Place, cluster: str) -> str:
    """The ``restore_command`` that opskit writes, for the account; the interpreter is copied where it must be."""
    environment = {"PYTHONPATH": str(PROJECT)}
    executable = Path(sys.executable)
    if place.account and not _can_run(place, [str(executable), "-c", ""]):
        executable = _copied(place.directory / "python")
        libraries = executable.parent.parent / "lib"
        environment = {
            "PYTHONHOME": str(libraries.parent),
            "PYTHONPATH": f"{PROJECT}:{sysconfig.get_path('purelib')}",
            "LD_LIBRARY_PATH": str(libraries),
        }
    words = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join([*words, fetching_command(cluster, place.configuration, str(executable))])


def _can_run(place: Place, command: list[str]) -> bool:
    account = place.account
    assert account is not None
    try:
        done = subprocess.run(
            command, user=account.uid, group=account.gid, extra_groups=(), capture_output=True
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _copied(target: Path) -> Path:
    """A copy of the interpreter and its standard library."""
    base = Path(sys.base_prefix)
    library = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    if not target.exists():
        shutil.copytree(base / library, target / library, ignore=_LEFT_OUT, symlinks=True)
        for shared in base.glob("lib/libpython*.so*"):
            shutil.copy(shared, target / "lib")
        (target / "bin").mkdir()
        shutil.copy(Path(os.path.realpath(sys.executable)), target / "bin/python")
    return target / "bin/python"
