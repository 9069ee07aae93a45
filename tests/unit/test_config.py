"""``opskit.toml``: where it is found, what it may say, and how it is told that it may not."""

from datetime import timedelta
from pathlib import Path

import pytest

from opskit.config import (
    Checkpoint,
    check_cluster_name,
    find_configuration,
    load_settings,
    settings_from,
)
from opskit.errors import ErrorKind, InputError, NotFoundError
from opskit.model.increment import IncrementalRules

FULL = """
[repository]
url = "file:///srv/opskit"
[catalog]
url = "sqlite:///state/opskit.db"
[reports]
directory = "../reports"
[postgres]
programs = ["/opt/pg18/bin", "pg17/bin"]
run_as = "backup"
[clusters.main]
conninfo = "service=main"
[clusters.eu-west_2]
conninfo = "host=db.example user=opskit"
checkpoint = "spread"
wal_partial_seconds = 2.5
incremental = { increments = 0, days = 14 }
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a user without any configuration."""
    monkeypatch.delenv("OPSKIT_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def write(file: Path, text: str = FULL) -> Path:
    """Write a configuration."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_a_full_configuration_reads_as_it_was_meant(tmp_path: Path) -> None:
    """Every key arrives, and relative paths are taken from the file's folder."""
    settings = load_settings(write(tmp_path / "opskit.toml"))
    assert settings.file == tmp_path / "opskit.toml"
    assert settings.repository_url == "file:///srv/opskit"
    assert settings.catalog_url == f"sqlite:///{tmp_path}/state/opskit.db"
    assert settings.reports_directory.resolve() == tmp_path.parent / "reports"
    assert settings.postgres.programs == (Path("/opt/pg18/bin"), tmp_path / "pg17/bin")
    assert settings.postgres.run_as == "backup"
    assert settings.cluster("main").conninfo == "service=main"
    assert settings.cluster("main").checkpoint is Checkpoint.FAST
    assert settings.cluster("main").wal_partial_seconds == 10
    assert settings.cluster("eu-west_2").checkpoint is Checkpoint.SPREAD
    assert settings.cluster("eu-west_2").wal_partial_seconds == 2.5
    assert settings.cluster("main").incremental == IncrementalRules()
    rules = IncrementalRules(increments=0, days=timedelta(days=14), percent=50)
    assert settings.cluster("eu-west_2").incremental == rules


def test_only_one_cluster_need_not_be_named(tmp_path: Path) -> None:
    """``wal push`` and ``wal get`` take the only cluster; of several one has to be named."""
    settings = load_settings(write(tmp_path / "opskit.toml"))
    assert settings.only_cluster("main").name == "main"
    with pytest.raises(InputError, match="2 clusters are configured") as raised:
        settings.only_cluster()
    assert "--cluster: eu-west_2, main" in raised.value.hint
    text = '[repository]\nurl = "x"\n[clusters.a]\nconninfo = "x"'
    assert load_settings(write(tmp_path / "one.toml", text)).only_cluster().name == "a"


def test_only_the_repository_has_to_be_said(tmp_path: Path) -> None:
    """Everything else has a default beside the file, and no cluster is no error yet."""
    settings = load_settings(write(tmp_path / "o.toml", '[repository]\nurl = "file:///r"'))
    assert settings.catalog_url == f"sqlite:///{tmp_path}/opskit.db"
    assert settings.reports_directory == tmp_path / "reports"
    assert settings.clusters == {}


def test_the_places_are_tried_in_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given wins over the environment, that over the working directory, and that over the user's."""
    user = write(home / "user/opskit/opskit.toml")
    assert find_configuration() == user
    local = write(home / "work/opskit.toml")
    assert find_configuration() == local
    named = write(home / "named.toml")
    monkeypatch.setenv("OPSKIT_CONFIG", str(named))
    assert find_configuration() == named
    assert find_configuration(Path("opskit.toml")) == local


def test_a_missing_configuration_names_the_places(home: Path) -> None:
    """Without any, the hint tells where to write one, and of the demo."""
    with pytest.raises(NotFoundError, match=r"no opskit\.toml") as raised:
        load_settings()
    assert raised.value.kind is ErrorKind.CONFIGURATION_NOT_FOUND
    assert str(home / "user") in raised.value.hint
    assert "opskit demo" in raised.value.hint


def test_a_named_configuration_must_exist(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was named and is missing is never replaced by another one."""
    write(home / "work/opskit.toml")
    monkeypatch.setenv("OPSKIT_CONFIG", "/no/where.toml")
    for given in (None, Path("/no/where.toml")):
        with pytest.raises(NotFoundError, match=r"'/no/where\.toml' does not exist"):
            load_settings(given)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('[repositry]\nurl = "x"', "unknown setting 'repositry'", "'repository'"),
        ('[repository]\nurll = "x"', "unknown setting 'repository.urll'", "'url'"),
        ('[repository]\nurl = "x"\ncolour = 1', "unknown setting 'repository.colour'", "url"),
        (
            '[repository]\nurl="x"\n[clusters.main]\nconinfo = "x"',
            "unknown setting 'clusters.main.coninfo'",
            "'conninfo'",
        ),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(
    tmp_path: Path, text: str, message: str, hint: str
) -> None:
    """A key that nobody reads is refused, with the one that was probably meant."""
    with pytest.raises(InputError) as raised:
        load_settings(write(tmp_path / "o.toml", text))
    assert raised.value.kind is ErrorKind.UNKNOWN_SETTING
    assert message in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the setting 'repository.url' is missing"),
        ("[repository]\nurl = 5", "the setting 'repository.url' is 5, expected a text"),
        ('[repository]\nurl = ""', "the setting 'repository.url' is '', expected a text"),
        ("repository = 1", "the setting 'repository' is 1, expected a table"),
        ('[repository]\nurl = "x"\n[clusters.a]', "the setting 'clusters.a.conninfo' is missing"),
        (
            '[repository]\nurl = "x"\n[clusters.a]\nconninfo = "x"\ncheckpoint = "slow"',
            "expected 'fast' or 'spread'",
        ),
        (
            '[repository]\nurl = "x"\n[clusters.a]\nconninfo = "x"\nwal_partial_seconds = 0',
            "'clusters.a.wal_partial_seconds' is 0, expected a number of seconds",
        ),
        (
            '[repository]\nurl = "x"\n[clusters.a]\nconninfo = "x"\nincremental = { percent = 0 }',
            "'clusters.a.incremental.percent' is 0, expected a whole number from 1 on",
        ),
        ('[repository]\nurl = "x"\n[postgres]\nprograms = "/usr/bin"', "expected a list of texts"),
        ("[repository\nurl = 1", "is not valid TOML"),
    ],
)
def test_a_wrong_value_is_quoted_with_what_was_expected(
    tmp_path: Path, text: str, message: str
) -> None:
    """A value that cannot be used names its key, itself, and what was expected."""
    with pytest.raises(InputError) as raised:
        load_settings(write(tmp_path / "o.toml", text))
    assert raised.value.kind is ErrorKind.WRONG_SETTING
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("repository", "url", "s3://user:planted@host/bucket"),
        ("catalog", "url", "postgresql+psycopg://user:planted@host/ops"),
        ("catalog", "url", "postgresql+psycopg://host/ops?user=u&password=planted"),
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(
    tmp_path: Path, table: str, key: str, value: str
) -> None:
    """A password has no place in the file, and the error that says so does not hold it; conninfo is libpq's to read."""
    text = f'[{table}]\n{key} = "{value}"\n'
    if table != "repository":
        text += '[repository]\nurl = "file:///r"\n'
    with pytest.raises(InputError) as raised:
        load_settings(write(tmp_path / "o.toml", text))
    assert raised.value.kind is ErrorKind.SECRET_IN_SETTINGS
    assert "planted" not in str(raised.value.as_dict())
    assert ".pgpass" in raised.value.hint


@pytest.mark.parametrize("name", ["main", "0", "eu-west_2", "a" * 63])
def test_a_cluster_s_name_is_safe_in_paths_and_urls(name: str) -> None:
    """Small letters, digits, dash and underscore are a name."""
    assert check_cluster_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "Main", "-a", "_a", "a b", "a/b", "..", "a.b", "ä", "a\n", "a" * 64]
)
def test_an_odd_cluster_name_is_refused(tmp_path: Path, name: str) -> None:
    """Anything else is refused, in the file and in a program, with the name quoted."""
    with pytest.raises(InputError) as raised:
        settings_from({"repository": {"url": "file:///r"}, "clusters": {name: {"conninfo": "x"}}})
    assert repr(name) in raised.value.message
    assert raised.value.hint


def test_an_unknown_cluster_names_the_nearest_or_all(tmp_path: Path) -> None:
    """A cluster that is not configured is not found, with what there is."""
    settings = load_settings(write(tmp_path / "opskit.toml"))
    with pytest.raises(NotFoundError) as raised:
        settings.cluster("mian")
    assert raised.value.kind is ErrorKind.CLUSTER_NOT_FOUND
    assert "'main'" in raised.value.hint
    with pytest.raises(NotFoundError) as raised:
        settings.cluster("zzz")
    assert "eu-west_2, main" in raised.value.hint


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A file that is no text, or may not be read, is an error of the configuration."""
    (tmp_path / "opskit.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not valid TOML"):
        load_settings(tmp_path / "opskit.toml")


def test_urls_with_relative_paths_are_taken_from_the_file(tmp_path: Path) -> None:
    """``file:///./x`` and ``sqlite:///x`` mean the folder of the file, wherever the command is run; blanks are fine."""
    folder = tmp_path / "a b%41"
    text = '[repository]\nurl = "file:///./repo"\n[catalog]\nurl = "sqlite:///c.db"'
    settings = load_settings(write(folder / "o.toml", text))
    assert settings.repository_url == (folder / "repo").as_uri()
    assert settings.catalog_url == f"sqlite:///{folder}/c.db"


def test_the_fleets_queue_is_the_catalogs_unless_it_is_named(tmp_path: Path) -> None:
    """A catalog in PostgreSQL holds the queue, one in SQLite none; the driver's name is no part of a libpq URL."""
    repository = '[repository]\nurl = "file:///srv/opskit"\n'
    catalog = '[catalog]\nurl = "postgresql+psycopg://opskit@db/state?sslmode=require"\n'
    given = '[fleet]\nqueue = "postgres://queue@db/jobs"\njobs = 3\nstore_limit = 8\n'
    file = tmp_path / "opskit.toml"
    assert load_settings(write(file, repository)).fleet.queue_url is None
    shared = load_settings(write(file, repository + catalog)).fleet
    assert shared.queue_url == "postgresql://opskit@db/state?sslmode=require"
    assert (shared.jobs, shared.store_limit) == (1, None)
    named = load_settings(write(file, repository + catalog + given)).fleet
    assert (named.queue_url, named.jobs, named.store_limit) == ("postgresql://queue@db/jobs", 3, 8)


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ('queue = "sqlite:///queue.db"', ErrorKind.WRONG_SETTING),
        ('queue = "postgresql://opskit:secret@db/jobs"', ErrorKind.SECRET_IN_SETTINGS),
        ("jobs = 0", ErrorKind.WRONG_SETTING),
        ("store_limits = 2", ErrorKind.UNKNOWN_SETTING),
    ],
)
def test_a_fleet_that_cannot_be_is_refused(tmp_path: Path, setting: str, kind: ErrorKind) -> None:
    """By its key, without what is secret in it."""
    text = f'[repository]\nurl = "file:///srv/opskit"\n[fleet]\n{setting}\n'
    with pytest.raises(InputError, match=r"fleet\.") as raised:
        load_settings(write(tmp_path / "opskit.toml", text))
    assert raised.value.kind is kind
    assert "secret@" not in f"{raised.value.message}{raised.value.hint}"
