"""WAL as files: made up, for what needs no server, and carried between a server's account and the command."""

import os
import shlex
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opskit.config import Settings
from opskit.model.wal import WalSegment
from opskit.postgres.account import Account
from tests.support.command import PROJECT, command

PAGE = 8192
SYSTEM = "7000000000000000001"
MAGIC = {15: 0xD110, 16: 0xD113, 17: 0xD116, 18: 0xD118}


def made_up(
    segment: WalSegment,
    *,
    system: str = SYSTEM,
    major: int = 18,
    pages: int | None = None,
    fill: bytes = b"w",
) -> bytes:
    """A segment with headers as PostgreSQL writes them, `pages` of it written, and zeros behind."""
    content = bytearray()
    for page in range(segment.size // PAGE if pages is None else pages):
        header = struct.pack(
            "<HHIQI4x",
            MAGIC[major],
            0 if page else 2,
            segment.timeline,
            segment.start + page * PAGE,
            0,
        )
        if not page:
            header += struct.pack("<QII", int(system), segment.size, PAGE)
        content += header.ljust(PAGE, fill)
    return bytes(content.ljust(segment.size, b"\0"))


@contextmanager
def command_for_server(
    settings: Settings, verb: str, directory: Path, account: Account | None
) -> Iterator[str]:
    """The value of ``archive_command`` (`verb` "push") or ``restore_command`` ("get") that runs opskit.

    Where root runs the tests, the server's account can read neither Python nor the repository. Then a shell script
    hands the call to this process, and gives back its exit code.
    """
    places = '%f "%p"' if verb == "get" else '"%p"'
    if account is None:
        words = command(settings, "wal", verb)
        yield f"PYTHONPATH={shlex.quote(str(PROJECT))} {shlex.join(words)} {places}"
        return
    directory.mkdir()
    os.chown(directory, account.uid, account.gid)
    script = directory / "relay.sh"
    script.write_text(_RELAY.format(directory=shlex.quote(str(directory))))
    ended = threading.Event()
    thread = threading.Thread(
        target=_serve, args=(settings, verb, directory, account, ended), name="relay"
    )
    thread.start()
    try:
        yield f"sh {script} {places}"
    finally:
        ended.set()
        thread.join()


_RELAY = """\
ask={directory}/$$
printf '%s\\0' "$PWD" "$@" > "$ask.new"
mv "$ask.new" "$ask.ask"
while [ ! -e "$ask.done" ]; do sleep 0.02; done
code=$(cat "$ask.done")
rm "$ask.done"
exit "$code"
"""


def _serve(
    settings: Settings, verb: str, directory: Path, account: Account, ended: threading.Event
) -> None:
    while not ended.wait(0.02):
        for ask in directory.glob("*.ask"):
            place, *arguments = ask.read_text().split("\0")[:-1]
            with (directory / "log").open("a") as log:
                done = subprocess.run(
                    command(settings, "wal", verb, *arguments),
                    cwd=place,
                    env={**os.environ, "PYTHONPATH": str(PROJECT)},
                    stdin=subprocess.DEVNULL,
                    stderr=log,
                    check=False,
                )
            got = Path(place, arguments[-1])
            if verb == "get" and got.exists():
                os.chown(got, account.uid, account.gid)
            ask.unlink()
            told = ask.with_suffix(".told")
            told.write_text(str(done.returncode))
            told.rename(ask.with_suffix(".done"))
