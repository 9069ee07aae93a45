"""What a secret looks like, and that it is taken out of a text while everything else stays."""

import time

import pytest

from opskit.model.secrets import (
    HIDDEN,
    Scrubber,
    is_secret_name,
    known_secrets,
    passwords_in_pgpass,
    passwords_in_services,
    secret_in,
)

SECRET = "Tr0ub4dor&3 'q' \\%ä"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
SCRAM = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"


SECRET_NAMES = (
    "password PGPASSWORD db_password passwd pwd db_pass sslpassword passphrase secret client_secret clientSecret token"
    " API_TOKEN api_key api-key apiKey AWS_SECRET_ACCESS_KEY private_key signing_key credentials JUPYTER_TOKEN"
)


def test_names_of_secrets() -> None:
    """What is called so is a secret."""
    assert [name for name in SECRET_NAMES.split() if not is_secret_name(name)] == []


OTHER_NAMES = (
    "cluster backup note at directory keep read_back PGPASSFILE password_file secret_name AWS_ACCESS_KEY_ID key"
    " max_tokens compass bypass primary_key passed tokenizer PASSWORD_STORE_DIR keep_days"
)


def test_names_of_other_things() -> None:
    """What says where a secret is, or sounds like one, is none."""
    assert [name for name in OTHER_NAMES.split() if is_secret_name(name)] == []


FORMS = [
    ("postgresql://focker:hunter2@db/main", "postgresql://focker:***@db/main"),
    ("s3://key:hun@ter2@bucket/x and more", "s3://key:***@bucket/x and more"),
    ("see postgres://:hunter2@h", "see postgres://:***@h"),
    ("host=db password=hunter2 user=me", "host=db password=*** user=me"),
    ("host=db password = 'hunter 2\\' x' user=me", "host=db password = '***' user=me"),
    ("postgresql://db/main?password=hunter2&user=me", "postgresql://db/main?password=***&user=me"),
    ("<td>password=hunt&amp;er2</td>", "<td>password=***</td>"),
    ("password=&#x27;hunter2&#x27; x", "password=*** x"),
    ('PGPASSWORD="hunter2" psql', 'PGPASSWORD="***" psql'),
    ("password \x1b[38;5;28m=\x1b[39m \x1b[33m'hunter2'\x1b[39m", None),
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "AWS_SECRET_ACCESS_KEY=***"),
    ("{'user': 'me', 'password': 'hunter2'}", "{'user': 'me', 'password': '***'}"),
    ('{"api_key": "hunter2"}', '{"api_key": "***"}'),
    ("ALTER ROLE me PASSWORD 'hun''ter2'", "ALTER ROLE me PASSWORD '***'"),
    (f"a\n{KEY}\nb", "a\n***\nb"),
    (KEY[:50], "***"),
    ("AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ", "***"),
    ("key AKIAIOSFODNN7EXAMPLE.", "key ***."),
    (f"it is {JWT}", "it is ***"),
    ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "***"),
    ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
    (f"rolpassword {SCRAM} |", "rolpassword *** |"),
    ("md5a3556571e93b0d20722ba62be61e8c2d", "***"),
]


@pytest.mark.parametrize(("text", "scrubbed"), FORMS)
def test_what_looks_like_a_secret(text: str, scrubbed: str | None) -> None:
    """It is seen, it is hidden while what stands around it is kept, and the result is left as it is."""
    assert secret_in(text)
    done = Scrubber().text(text)
    assert "hunter2" not in done
    assert scrubbed is None or done == scrubbed
    assert secret_in(done) is None
    assert Scrubber().text(done) == done


@pytest.mark.parametrize(
    "text",
    [
        "20261122T140305Z",
        "0/3000028 to 1F/AB000100 on timeline 3",
        "000000010000001F000000AB",
        "00000002.history",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3",
        "d41d8cd98f00b204e9800998ecf8427e",
        "file:///srv/opskit/main/backups",
        "s3://bucket/prefix?region=eu-west-1",
        "postgresql+psycopg://focker@db.example.com:5432/main",
        "http://localhost:8888/lab?reset@x",
        "http://[::1]:8888/ and me@example.com",
        "service=main",
        "host=/var/run/postgresql port=5432 user=focker dbname=postgres",
        "before the migration of 2026-11-22 14:05:00+01:00: keep",
        "password authentication failed for user 'focker'",
        "the password in ~/.pgpass (mode 0600), the service file or PGPASSWORD.",
        "password_encryption = scram-sha-256",
        "2026-11-22 10:05:33.120 UTC [123] LOG:  redo done at 0/3000028",
        "password=***",
        "postgresql://focker:***@db/main",
        "it is a secret; a token of trust",
        "password=",
    ],
)
def test_ordinary_content(text: str) -> None:
    """Backup names, digests, LSNs, paths, URLs and prose are no secrets, and stay as they are."""
    assert secret_in(text) is None
    assert Scrubber({"hunter2"}).text(text) == text


def test_known_values_are_hidden_however_they_are_written() -> None:
    """As it is, in HTML, in JSON, as Python shows it, in a URL, in SQL."""
    scrubber = Scrubber({SECRET, "hunter2", "hun"})
    forms = [
        SECRET,
        "Tr0ub4dor&amp;3 &#x27;q&#x27; \\%ä",
        "Tr0ub4dor&3 'q' \\\\%\\u00e4",
        repr(SECRET),
        "Tr0ub4dor%263%20%27q%27%20%5C%25%C3%A4",
        "Tr0ub4dor&3 ''q'' \\%ä",
        "xhunter2x",
    ]
    for form in forms:
        assert scrubber.knows(form)
        assert HIDDEN in scrubber.text(form) and HIDDEN in scrubber.hide_known(form)
        assert "Tr0ub" not in scrubber.text(form) and "hunter" not in scrubber.text(form)
    assert scrubber.text("hunting") == "hunting"
    word = Scrubber({"postgres"})
    assert word.knows("postgres") and not word.knows("/srv/postgres/copy")
    assert word.text("/srv/postgres/copy") == "/srv/***/copy"
    assert not Scrubber().knows("anything")


def test_an_environment_tells_what_is_secret() -> None:
    """Values under the names of secrets; not paths, nor what is too short or too common to hide."""
    environment = {
        "PGPASSWORD": "hunter2",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUt/nFEMI",
        "PWD": "/srv/place",
        "OLDPWD": "/srv/other",
        "PGPASSFILE": "/srv/me/.pgpass",
        "GOOGLE_APPLICATION_CREDENTIALS": "/etc/google.json",
        "MY_TOKEN": "abc",
        "USE_TOKEN": "true",
        "USER": "somebody",
    }
    assert known_secrets(environment) == {"hunter2", "wJalrXUt/nFEMI"}


def test_libpq_files_tell_what_is_secret() -> None:
    """The fifth fields of a password file, and the passwords of services."""
    pgpass = "# db:5432:*:me:comment\ndb:5432:*:me:hun:ter\\:2\\\\x\n*:*:*:*:other2\nodd\n"
    assert passwords_in_pgpass(pgpass) == {"hun:ter:2\\x", "other2"}
    services = "[main]\nhost=db\npassword=hunter2\n[b]\npassword = with space\nsslpassword=third\n"
    assert passwords_in_services(services) == {"hunter2", "with space", "third"}


def test_data_is_scrubbed_in_depth() -> None:
    """Texts in mappings and lists are; what is kept under the name of a secret is, whatever it looks like."""
    data = {"a": ["x hunter2", {"password": "plain", "n": 3}], "keep": True, "token": ""}
    assert Scrubber({"hunter2"}).data(data) == {
        "a": ["x ***", {"password": "***", "n": 3}],
        "keep": True,
        "token": "",
    }


@pytest.mark.parametrize(
    "piece", ["a1", "://", "eyJ", "password", "md5", "x:y@", "-----BEGIN ", "'\\"]
)
def test_long_texts_take_no_long_time(piece: str) -> None:
    """An output of a megabyte is scrubbed in a moment, whatever is in it."""
    begun = time.process_time()
    Scrubber({"hunter2"}).text(piece * (1_000_000 // len(piece)))
    assert time.process_time() - begun < 5
