"""JupyterLab on a working copy of the notebooks."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import opskit
from opskit.errors import ErrorKind, InputError, NotFoundError, StoreError


def shipped_notebooks() -> Path:
    """Where the notebooks are: inside the installed package, or beside it in a checkout."""
    package = Path(opskit.__file__).resolve().parent
    for place in (package / "_shared" / "notebooks", package.parent / "notebooks"):
        if place.is_dir():
            return place
    raise NotFoundError(
        "this installation of opskit has no notebooks",
        ErrorKind.OBJECT_NOT_FOUND,
        "Install opskit again, from its wheel.",
    )


def working_copy(shipped: Path, directory: Path) -> Path:
    """`directory` with every notebook in it; one that is there already, however it was changed, stays as it is."""
    if directory.exists() and directory.samefile(shipped):
        return directory
    try:
        directory.mkdir(exist_ok=True)
        for notebook in sorted(shipped.glob("*.ipynb")):
            if not (directory / notebook.name).exists():
                shutil.copyfile(notebook, directory / notebook.name)
    except OSError as error:
        raise StoreError(
            f"the notebooks cannot be copied to {str(directory)!r}: {(error.strerror or '').lower()}",
            ErrorKind.STORE_NOT_WRITABLE,
            "Run 'opskit lab' in a directory that you may write to.",
        ) from None
    return directory


def open_lab(configuration: Path, directory: Path, options: Sequence[str]) -> NoReturn:
    """Become JupyterLab, which finds `configuration` as ``$OPSKIT_CONFIG``; `options` are its own.

    It serves downloads, listens on this machine only unless `options` say otherwise, and asks nothing of the network.
    """
    start = directory / "start_here.ipynb"
    command = [
        *(sys.executable, "-m", "jupyterlab"),
        *(f"--notebook-dir={directory.parent}", "--ServerApp.ip=127.0.0.1"),
        "--ServerApp.log_level=WARN",  # the address is told all the same
        "--LabApp.log_level=WARN",
        *(["--allow-root"] if os.geteuid() == 0 else []),
        *options,
        str(start if start.exists() else directory),
    ]
    try:
        os.execve(sys.executable, command, _environment(configuration))
    except OSError as error:
        raise InputError(f"JupyterLab cannot be started: {error.strerror}") from None


def _environment(configuration: Path) -> dict[str, str]:
    """This process's, with a folder of Jupyter's configuration that goes before all others.

    It loads the extension, wherever opskit was installed from, and switches off news, the check for updates and the
    list of extensions to install.
    """
    path = "JUPYTER_CONFIG_PATH"
    ours = str(Path(opskit.__file__).resolve().parent / "jupyter" / "lab")
    folders = os.pathsep.join(filter(None, (ours, os.environ.get(path))))
    return {**os.environ, "OPSKIT_CONFIG": str(configuration), path: folders}
