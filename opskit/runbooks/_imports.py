"""What the processes of a run need not import, nor look through."""

import sys

from opskit.collector import collect_seldom

# jsonschema looks for checkers of formats that no notebook has, and importing these two takes most of a second.
_CHECKERS = ("rfc3987_syntax", "isoduration")


def lighten() -> None:
    """Do without jsonschema's optional checkers in this process; for processes that are a run's own."""
    collect_seldom()
    for name in _CHECKERS:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
