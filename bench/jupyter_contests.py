"""Downloads through Jupyter Server: opskit's extension beside Jupyter's own files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.contest import Contest, Side, Spread
from bench.place import Place
from bench.served import CLUSTER, Served, incompressible_backup, jupyter_server
from opskit.model.backup import BaseBackup
from opskit.operations.download import ArchiveFormat, archive_name

BYTES_OF_SCALE_1 = 300_000_000
MOST_GROWN_BYTES = 50_000_000
SLOWEST_ANSWER_SECONDS = 0.2
_SLOWEST_OF_FILES = 0.5
_MEGABYTE = 1e6
_PIECE_BYTES = 4 << 20


@contextmanager
def jupyter_contest(place: Place, scale: float) -> Iterator[Contest]:
    """Two servers alike, one for each side, with a download of ``scale * 0.3`` GB."""
    place.configure_without_server(CLUSTER)
    backup = incompressible_backup(place, round(BYTES_OF_SCALE_1 * scale))
    root = place.directory / "root"
    root.mkdir()
    place.opskit("download", CLUSTER, backup.name, "--output", str(root))
    stored = (place.directory / "repository" / CLUSTER).rglob("snapshot-*")
    _read_anew([*stored, *root.iterdir()])
    with (
        jupyter_server(place, place.directory / "elsewhere") as ours,
        jupyter_server(place, root) as theirs,
    ):
        yield _contest(place, backup, ours, theirs)
    for name in ("root", "elsewhere", f"repository/{CLUSTER}"):
        place.remove(name)


def _read_anew(files: list[Path]) -> None:
    """Bring files into the page cache by reading: those that are there since they were written cost less to send."""
    os.sync()
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while file.read(_PIECE_BYTES):
                pass


def _contest(place: Place, backup: BaseBackup, ours: Served, theirs: Served) -> Contest:
    file = place.directory / "root" / archive_name(backup, ArchiveFormat.TAR_ZST)
    length = file.stat().st_size
    path = f"/opskit/download/{CLUSTER}/{backup.name}"
    return Contest(
        title=f"Download of {length / 1e9:.1f} GB through Jupyter Server",
        note="By a client that throws it away, on the same cores, while another one asks the server for its version"
        " every 20 ms. opskit has the kernel send the volumes, of which it looks at the sizes alone, and the"
        " download is recorded. Either side's files have been read into the page cache before."
        " CPU seconds are the server's.",
        weighs_memory=False,
        opskit=Side(name="opskit in jupyter-server", run=lambda: ours.download(path, length)),
        others=[
            Side(
                name="Jupyter's own /files",
                run=lambda: theirs.download(f"/files/{file.name}", length),
                at_most=_SLOWEST_OF_FILES,
            )
        ],
        facts=lambda: [*_facts("opskit", ours, True), *_facts("/files", theirs, False)],
    )


def _facts(name: str, served: Served, has_aim: bool) -> Iterator[str]:
    grown, slowest = Spread.of(served.grown_bytes), Spread.of(served.slowest_seconds)
    yield (
        f"{name}: the server's memory grew by up to {grown.high / _MEGABYTE:.0f} MB"
        f"{_aim(grown.high, MOST_GROWN_BYTES, f'{MOST_GROWN_BYTES / _MEGABYTE:.0f} MB') if has_aim else ''}"
    )
    yield (
        f"{name}: the slowest answer to somebody else took {slowest.median:.2f} s ({slowest.low:.2f} to"
        f" {slowest.high:.2f})"
        f"{_aim(slowest.high, SLOWEST_ANSWER_SECONDS, f'{SLOWEST_ANSWER_SECONDS:g} s') if has_aim else ''}"
    )


def _aim(figure: float, most: float, told: str) -> str:
    return f"; aim < {told}: {'met' if figure < most else '**missed**'}"
