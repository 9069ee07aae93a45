"""What a secret looks like, by its name and by itself, and how it is taken out of a text.

Nothing can know every secret. Known are the values that an environment and libpq's own files hold; guessed are the
forms in which passwords, keys and tokens are written. Ordinary content (backup names, digests, LSNs, paths, URLs
without a password) is none of these.
"""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "***"
# Shorter ones would be found in every other word; who can guess them needs no report.
SHORTEST = 4

_NAMES = re.compile(
    r"passw(?:or)?d|passphrase|passwort|secret|credential|apikey|(?:api|access|private|secret|signing|encryption)_?key"
    r"|(?:^|_)(?:auth)?token$|(?:^|_)(?:pwd|pass|pw)$"
)
# What says where a secret is, or of which kind, and is none.
_ABOUT = re.compile(r"_?(?:file|path|dir|directory|name|id|command|age|days|length|policy|store)$")
_DIRECTORIES = ("pwd", "oldpwd")
_WORD = re.compile(r"[a-z]+|[A-Z][a-z]+|[A-Z]+|\d+")
_HARMLESS = {"true", "false", "none", "null", "default"}

_KEYS = r"passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key"
_SPACE = r"(?:\s|\x1b\[[\d;]*m)*"  # and the colours of a traceback
_VALUE = (
    r"""'(?:[^'\\]|\\.)+'|"(?:[^"\\]|\\.)+\""""  # a quoted one
    r"|(?:&\#x27;|&\#0?39;).+?(?:&\#x27;|&\#0?39;)|&quot;.+?&quot;"  # quoted, in HTML
    # a bare one; & ends it where another key or an entity of HTML follows
    r"""|(?:\\.|[^\s&'"<>\\\x1b]|&(?!(?:amp;)?[\w-]+=|[lg]t;|quot;|\#))+"""
)
# Each keeps its first group, and hides what follows it.
_FORMS = {
    "a URL with a password": re.compile(r"""(://[^\s/@:?#"'<>]*:)(?!\*\*\*@)[^\s/?#"'<>]+(?=@)"""),
    "text with a password": re.compile(
        rf"((?:{_KEYS}){_SPACE}={_SPACE})(?![\"']?\*\*\*)(?:{_VALUE})", re.IGNORECASE
    ),
    "data with a password": re.compile(
        rf"""((?:{_KEYS})\\?["']{_SPACE}:{_SPACE})(?!\\?["']\*\*\*)"""
        r"""(?:\\?"(?:[^"\\]|\\[^"])+\\?"|'(?:[^'\\]|\\.)+')""",
        re.IGNORECASE,
    ),
    "SQL with a password": re.compile(r"(\bpassword\s+)(?!'\*\*\*')'(?:[^']|'')+'", re.IGNORECASE),
    "a private key": re.compile(
        r"()-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)"
        r"|\bAGE-SECRET-KEY-1[A-Z0-9]{20,}",
        re.DOTALL,
    ),
    "an AWS access key": re.compile(r"()\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token": re.compile(
        r"()\b(?:gh[pousr]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{35}"
        r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+)"
    ),
    "a header that authorizes": re.compile(
        r"(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer)\s+)(?!\*\*\*)[\w.~+/=-]+",
        re.IGNORECASE,
    ),
    "a stored password of PostgreSQL": re.compile(
        r"()\bSCRAM-SHA-256\$\d+:[\w+/=]+\$[\w+/=]+:[\w+/=]+|\bmd5[0-9a-f]{32}\b"
    ),
}


def is_secret_name(name: str) -> bool:
    """Whether what is called so is a secret: ``password``, ``PGPASSWORD``, ``api_key``; but not ``password_file``."""
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\s-]+", "_", name).lower()
    return bool(_NAMES.search(plain)) and not _ABOUT.search(plain)


def secret_in(text: str) -> str | None:
    """What in `text` looks like a secret, such as ``a URL with a password``; `None` when nothing does."""
    return next((what for what, form in _FORMS.items() if form.search(text)), None)


def known_secrets(environment: Mapping[str, str]) -> frozenset[str]:
    """The values that an environment holds under the names of secrets."""
    return frozenset(
        value
        for name, value in environment.items()
        if is_secret_name(name)
        and name.lower() not in _DIRECTORIES
        and not (name.lower().endswith("credentials") and value.startswith("/"))  # names a file
        and _is_worth_hiding(value)
    )


def passwords_in_pgpass(text: str) -> frozenset[str]:
    """The passwords of a password file of libpq: the fifth fields, in which a backslash escapes (libpq-pgpass)."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    fields = [re.split(r"(?<!\\):", line, maxsplit=4) for line in lines]
    passwords = [re.sub(r"\\(.)", r"\1", field[4]) for field in fields if len(field) == 5]
    return frozenset(filter(_is_worth_hiding, passwords))


def passwords_in_services(text: str) -> frozenset[str]:
    """The passwords of a connection service file of libpq (libpq-pgservice)."""
    found = re.findall(r"^\s*(?:ssl)?password\s*=[ \t]*(.*?)\s*$", text, re.MULTILINE)
    return frozenset(filter(_is_worth_hiding, found))


def _is_worth_hiding(value: str) -> bool:
    return len(value) >= SHORTEST and value.lower() not in _HARMLESS


class Scrubber:
    """Hides secrets: the `known` ones in every form in which they may be written, and what looks like one."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._values = frozenset(filter(_is_worth_hiding, known))
        self._known = _any_of(self._values)
        self._telling = _any_of(value for value in self._values if not _WORD.fullmatch(value))

    def knows(self, text: str) -> bool:
        """Whether `text` is a known secret, or holds one that is no mere word: ``/srv/postgres`` is no password."""
        return text in self._values or bool(self._telling and self._telling.search(text))

    def hide_known(self, text: str) -> str:
        """`text` without the known secrets."""
        return self._known.sub(HIDDEN, text) if self._known else text

    def text(self, text: str) -> str:
        """`text` without the known secrets, and without what looks like one; repeatable."""
        text = self.hide_known(text)
        for form in _FORMS.values():
            text = form.sub(_hidden, text)
        return text

    def data(self, data: Any) -> Any:
        """Plain data (mappings, lists, texts), as new mappings and lists with every text scrubbed.

        What a mapping holds under the name of a secret is hidden, whatever it looks like.
        """
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, Mapping):
            return {key: self._entry(key, value) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.data(entry) for entry in data]
        return data

    def _entry(self, key: Any, value: Any) -> Any:
        if isinstance(key, str) and isinstance(value, str) and value and is_secret_name(key):
            return HIDDEN
        return self.data(value)


def _any_of(values: Iterable[str]) -> re.Pattern[str] | None:
    """What finds the values, in every form in which they may be written; the longest first."""
    forms = {form for value in values for form in _written(value)}
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile("|".join(map(re.escape, longest_first))) if forms else None


def _written(value: str) -> set[str]:
    """A value as itself, and as HTML, JSON, Python and URLs write it."""
    return {
        value,
        escape(value),
        escape(value, quote=False),
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        value.replace("'", "''"),
    }


def _hidden(match: re.Match[str]) -> str:
    kept = match[1] or ""
    rest = match[0][len(kept) :]
    mark = rest[0] if rest[0] in "'\"" and len(rest) > 1 and rest[-1] == rest[0] else ""
    return f"{kept}{mark}{HIDDEN}{mark}"
