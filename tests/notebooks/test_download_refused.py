"""Who gets no download, and what is said then."""

from pathlib import Path

from tests.notebooks.downloads import LATEST, Place
from tests.notebooks.panels import wait_until
from tests.notebooks.serving import BASE, Jupyter
from tests.support.archives import archived_backup


def test_nothing_is_given_unrecorded(jupyter: Jupyter, place: Place, tmp_path: Path) -> None:
    """When the catalog cannot be written nobody gets a backup, but a sentence that names the catalog."""
    archived_backup(place.store)
    (tmp_path / "opskit.db").write_bytes(b"no database" * 1000)
    refused = jupyter.ask(jupyter.led(LATEST))
    assert refused.status == 500
    assert "the catalog" in refused.text
    assert "Content-Disposition" not in refused.headers
    (tmp_path / "opskit.db").unlink()


def test_strangers_get_nothing(jupyter: Jupyter, place: Place) -> None:
    """Without the token, from another site's page, or where the authorizer refuses: 403, and one line in the log."""
    backup = archived_backup(place.store)
    path = jupyter.led(LATEST)
    cookie = {"Cookie": jupyter.ask("api/me").headers["Set-Cookie"].partition(";")[0]}
    host = f"http://{jupyter.host}"
    own = {**cookie, "Referer": f"{host}{BASE}lab"}
    assert jupyter.ask(path, own, token=False).status == 200
    strangers = [
        {},
        {"Authorization": "token wrong"},
        cookie,
        {**cookie, "Referer": "http://elsewhere.example/"},
        {**own, "Origin": "http://elsewhere.example"},
    ]
    lines = len(jupyter.logged())
    for method in ("GET", "HEAD"):
        for headers in strangers:
            refused = jupyter.ask(path, headers, method=method, token=False)
            assert refused.status == 403, headers
            assert backup.name not in refused.text
        assert jupyter.ask(path, {"Refuse": "read opskit"}, method=method).status == 403
    for method in ("POST", "PUT", "DELETE"):
        assert jupyter.ask(path, own, method=method, token=False).status in (403, 405)
    assert jupyter.ask("opskit/download/main/no", {}, token=False).status == 403
    told = "\n".join(jupyter.logged()[lines:])
    assert "Traceback" not in told
    assert str(place.repository.url) not in told
    assert len(place.operations()) == 1


def test_paths_find_nothing(jupyter: Jupyter, place: Place) -> None:
    """Names are looked up, never opened: whatever else stands in the URL is not found, in one line of the log."""
    backup = archived_backup(place.store)
    tricks = [
        "main/..",
        "main/%2e%2e",
        "%2e%2e/main",
        f"main%2f{backup.name}",
        f"main/{backup.name}%00",
        f"main/{backup.name}/snapshot-00001.tar.zst",
        f"main/..%2f..%2f{backup.name}",
        f"MAIN/{backup.name}",
        f"%6dain/{backup.name}",
        f"other/{backup.name}",
        "main/" + "9" * 3000,
        "m%C3%A4in/latest",
        "main/%ff%fe",
        "main/%D9%A2%D9%A0%D9%A2%D9%A6%D9%A1%D9%A1%D9%A2%D9%A0T%D9%A0%D9%A2%D9%A0%D9%A0%D9%A0%D9%A0Z",
        "main/20990101T000000Z",
        f"main/{backup.name}?version=../../etc/passwd",
        f"main/{backup.name}?version=1-ffffffffffffffff-ffffffff-{'0' * 32}",
        "",
    ]
    lines = len(jupyter.logged())
    for trick in tricks:
        answer = jupyter.ask(f"opskit/download/{trick}")
        assert answer.status == 404, trick
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert jupyter.ask(f"opskit/download/{trick}", token=False).status == 403, trick
    wait_until(lambda: len(jupyter.logged()) >= lines + 2 * len(tricks), "all are logged")
    told = jupyter.logged()[lines:]
    assert len(told) == 2 * len(tricks)
    assert all(" 404 GET " in line or " 403 GET " in line for line in told)
    assert place.operations() == []


def test_a_wrong_configuration_is_told(jupyter: Jupyter, place: Place) -> None:
    """Who is logged in reads what is wrong with the configuration and what to do; nobody else learns of a path."""
    jupyter.configuration.write_text("[repositori]\n")
    wrong = jupyter.ask(LATEST)
    assert wrong.status == 500
    assert "repositori" in wrong.text
    assert "repository" in wrong.text
    jupyter.configuration.unlink()
    missing = jupyter.ask(LATEST)
    assert missing.status == 404
    assert "does not exist" in missing.text
    assert jupyter.ask(LATEST, token=False).body == b"Forbidden\n"
    assert place.operations() == []
