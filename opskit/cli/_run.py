"""How a command ends: exit codes, one line for an error, and a clean end by SIGINT, SIGTERM and SIGHUP."""

import contextlib
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

import typer

from opskit.errors import Cancelled, OpskitError, unexpected

if TYPE_CHECKING:
    from opskit.config import Settings

_PASSWORDS = re.compile(
    r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)|(://[^/@\s:]*:)[^/@\s]+@", re.IGNORECASE
)


@dataclass(slots=True)
class Ending:
    """What SIGINT, SIGTERM or SIGHUP has asked for.

    While an operation runs (`gently`), the first signal only sets `asked`, which the operation looks at in places
    where it can end cleanly; a second SIGINT ends it where it stands.
    """

    asked: signal.Signals | None = None
    is_gentle: bool = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        again, self.asked = self.asked is not None, signal.Signals(number)
        if not self.is_gentle or (again and number == signal.SIGINT):
            raise Cancelled("cancelled")

    @contextlib.contextmanager
    def gently(self) -> Iterator[None]:
        """While this lasts, a signal does not interrupt."""
        self.is_gentle = True
        try:
            yield
        finally:
            self.is_gentle = False


@dataclass(slots=True)
class Session:
    """What the global options say, for the commands: the typer context's object."""

    config: Path | None = None
    debug: bool = False
    ending: Ending = field(default_factory=Ending)

    def settings(self) -> "Settings":
        """The configuration that the command line or the surroundings name."""
        from opskit.config import load_settings

        return load_settings(self.config)


def run(app: typer.Typer, arguments: Sequence[str] | None) -> int:
    """Run the command and give its exit code; whatever it raises is told on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # paths may hold bytes that are no text
    session = Session()
    with _signals(session.ending), _warnings():
        given = sys.argv[1:] if arguments is None else arguments
        return _invoke(app, join_parameters(given), session)


@contextlib.contextmanager
def _signals(ending: Ending) -> Iterator[None]:
    """Handle the signals that end a command; one that is ignored (nohup, a job in the background) stays so."""
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, ending.handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _warnings() -> Iterator[None]:
    """Show what the floors below log as a warning, in the command's own form."""
    handler = _Warnings(logging.WARNING)
    logger = logging.getLogger("opskit")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"opskit: {one_line(record.getMessage())}", err=True)


def join_parameters(arguments: Sequence[str]) -> list[str]:
    """``-p KEY VALUE``, papermill's form, as the single ``-p KEY=VALUE`` that typer can take several times."""
    joined: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        joined.append(argument)
        if argument not in ("-p", "--parameter") or "runbook" not in joined:
            continue
        key = next(rest, None)
        if key is not None:
            value = next(rest, None) if "=" not in key else None
            joined.append(key if value is None else f"{key}={value}")
    return joined


def tell(error: OpskitError, file: TextIO | None = None) -> None:
    """An error on stderr: one line, and one for the hint."""
    file = file or sys.stderr
    typer.echo(f"opskit: {one_line(error.message)}", file=file)
    if error.hint:
        typer.echo(f"HINT: {one_line(error.hint)}", file=file)


def one_line(text: str) -> str:
    """`text` without line breaks, and without characters that a terminal would obey."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split())
    )


def _invoke(app: typer.Typer, arguments: Sequence[str], session: Session) -> int:
    try:
        result = typer.main.get_command(app)(
            args=list(arguments), prog_name="opskit", standalone_mode=False, obj=session
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except Cancelled as error:
        tell(Cancelled(error.message))
        return 128 + (session.ending.asked or signal.SIGINT)
    except OpskitError as error:
        _trace(error, session)
        tell(error)
        return error.exit_code
    except BrokenPipeError:
        # whoever read stdout has gone; the interpreter must not stumble over it once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            return _wrong_usage(error)
        _trace(error, session)
        tell(unexpected(error))
        return 1


def _wrong_usage(error: Exception) -> int:
    """A usage error of click, which typer carries inside itself or imports, by its version."""
    message: str = error.format_message()  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message, err=True)
        return 2
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "opskit"
    message = (message[:1].lower() + message[1:]).rstrip(".")
    tell(OpskitError(message, hint=f"See '{path} --help'."))
    return 2


def _trace(error: BaseException, session: Session) -> None:
    """The traceback, where it was asked for; a password that a driver quotes is left out."""
    if session.debug:
        text = "".join(traceback.format_exception(error))
        planted = os.environ.get("PGPASSWORD")
        if planted:
            text = text.replace(planted, "***")
        typer.echo(
            _PASSWORDS.sub(lambda m: f"{m[1]}***" if m[1] else f"{m[3]}***@", text), err=True
        )
