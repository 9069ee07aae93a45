"""The directory in which a run may leave things: removed when it ended, however it ended."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PREFIX = "opskit-run-"


@contextmanager
def scratch() -> Iterator[dict[str, str]]:
    """The environment for a run's processes: this process's own, with temporary files in a directory of the run.

    Connection files with their keys, IPython's history and whatever a runbook restores into a temporary directory lie
    in it. A user's IPython start-up files are not read: a report must not depend on them.
    """
    place = Path(tempfile.mkdtemp(prefix=PREFIX))
    # Another account may run a restored server below it; it needs to pass through, not to look around.
    place.chmod(0o711)
    private = place / "jupyter"
    private.mkdir(mode=0o700)
    environment = os.environ | {
        "TMPDIR": str(place),
        "IPYTHONDIR": str(private / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(private),
    }
    try:
        yield environment
    finally:
        clear(environment)


def clear(environment: Mapping[str, str]) -> None:
    """Remove the directory that an environment made by `scratch` points to."""
    place = Path(environment.get("TMPDIR", ""))
    if place.name.startswith(PREFIX):
        shutil.rmtree(place, ignore_errors=True)
