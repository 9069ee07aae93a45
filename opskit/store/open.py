"""The store that a URL names."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from opskit.errors import ErrorKind, InputError
from opskit.store._port import Store
from opskit.store.local import LocalStore


def open_store(url: str) -> Store:
    """The store at `url`, ``file:///absolute/path``; nothing is made or asked yet.

    Raises
    ------
    InputError
        The URL's scheme is not supported or its path not absolute.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        # '?', '#' and ';' are ordinary characters in a path
        return LocalStore(Path(unquote(url.split("://", 1)[1].removeprefix("localhost"))))
    raise InputError(
        f"the repository url {url!r} is not of the form 'file:///absolute/path'",
        ErrorKind.WRONG_SETTING,
        'Write url = "file:///srv/opskit" below [repository].',
    )
