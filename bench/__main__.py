"""``python -m bench``: make the data, hold the contests, write the report."""

import argparse
import compileall
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from bench.agenda import DAYS, ROWS, Agenda, tell
from bench.chart import CHART_TEXT
from bench.place import PROJECT, Place
from opskit.errors import OpskitError
from opskit.postgres.account import server_account

PLACES = Path("/var/tmp")


def main() -> int:
    """Run the bench and print its report."""
    options = _options()
    signal.signal(signal.SIGTERM, _leave)
    # As an installation does: the account of PostgreSQL may not keep what Python compiles when it first runs it.
    compileall.compile_dir(PROJECT / "opskit", quiet=1)
    account = server_account()
    directory = Path(tempfile.mkdtemp(prefix="opskit-bench-", dir=options.directory))
    directory.chmod(0o755)
    try:
        report = Agenda(Place(directory, account), options).hold()
    except OpskitError as error:
        print(f"bench: {error.message}\nHINT: {error.hint}", file=sys.stderr)
        return 1
    finally:
        if options.keep:
            tell(f"kept {directory}")
        else:
            shutil.rmtree(directory)
    text = report.text
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        if report.chart:
            drawn = options.write.with_suffix(".svg")
            drawn.write_text(report.chart, encoding="utf-8")
            text = text.replace("\n\n", f"\n\n![{CHART_TEXT}]({drawn.name})\n\n", 1)
        options.write.write_text(text, encoding="utf-8")
    print(text)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--scale",
        type=_scales,
        default=(1.0,),
        metavar="SCALE,…",
        help="times 0.3 GB of data, and 0.1 GB of WAL; of several, WAL is of the last",
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each side runs")
    parser.add_argument("--days", type=int, default=DAYS, help="of increments, in the week's chain")
    parser.add_argument("--relations", type=int, default=10_000, help="of the crowded cluster")
    parser.add_argument("--clusters", type=int, default=10_000, help="of the simulated fleet")
    parser.add_argument(
        "--rows",
        type=_rows,
        default=ROWS,
        metavar="ROW,…",
        help=f"only these contests, of {', '.join(ROWS)}",
    )
    parser.add_argument("--no-peers", action="store_true", help="without pgBackRest and Barman")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="write the report there too, and a chart beside it",
    )
    parser.add_argument("--directory", type=Path, default=PLACES, help="where to work, on a disk")
    parser.add_argument("--keep", action="store_true", help="leave the work directory")
    options = parser.parse_args()
    if options.no_peers:
        options.rows = tuple(row for row in options.rows if row != "peers")
    return options


def _leave(number: int, _: FrameType | None) -> None:
    """Unwinds what runs, so that no server and no directory is left."""
    raise SystemExit(128 + number)


def _scales(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def _rows(text: str) -> tuple[str, ...]:
    unknown = set(text.split(",")) - set(ROWS)
    if unknown:
        raise argparse.ArgumentTypeError(f"there are no rows {', '.join(sorted(unknown))}")
    return tuple(text.split(","))


if __name__ == "__main__":
    sys.exit(main())
