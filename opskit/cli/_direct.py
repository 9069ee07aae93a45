"""``opskit wal push`` and ``opskit wal get`` without the command's frame, which takes longer to load than they take.

PostgreSQL starts them for every segment. Here they are done in the forms that are given to it; any other form, and
whatever goes wrong, is left to the command, which does it again and tells.
"""

import os

TYPE_CHECKING = False  # typing's would have to be loaded
if TYPE_CHECKING:
    from collections.abc import Sequence

    from opskit.operations.wal_spool import SpoolLead
    from opskit.repository.claims import Claims

_END_OF_ARCHIVE = 100  # see `opskit.cli.main`
_INTERRUPTED = 130


class WalCommand:
    """What the arguments say: ``wal`` `verb` `operands`, and the two options that PostgreSQL's settings need."""

    def __init__(self, verb: str, operands: list[str], options: dict[str, str]) -> None:
        self.verb, self.operands = verb, operands
        self._options = options

    @classmethod
    def of(cls, arguments: "Sequence[str]") -> "WalCommand | None":
        """The command, if the arguments are of such a form."""
        words: list[str] = []
        options: dict[str, str] = {}
        rest = iter(arguments)
        for argument in rest:
            name, is_joined, value = argument.partition("=")
            if name == ("--cluster" if len(words) >= 2 else "--config"):
                given = value if is_joined else next(rest, None)
                if given is None:
                    return None
                options[name] = given
            elif argument.startswith("-"):
                return None
            else:
                words.append(argument)
        operands = {"push": 1, "get": 2}.get(words[1] if len(words) > 1 else "")
        if words[:1] != ["wal"] or len(words) - 2 != operands:
            return None
        return cls(words[1], words[2:], options)

    def asker(self) -> list[str]:
        """Everything that decides which archive it is about."""
        named = [self._options.get(name, "") for name in ("--config", "--cluster")]
        return [*named, os.environ.get("OPSKIT_CONFIG", "")]

    def run(self) -> int | None:
        """Do it; the exit code, or `None` when the command has to tell what is wrong."""
        from opskit.operations.wal_files import get_file, push_file

        try:
            from pathlib import Path

            repository, cluster = self._archive()
            path = Path(self.operands[-1])
            if self.verb == "push":
                push_file(repository, cluster, path)
                return 0
            return 0 if get_file(repository, cluster, self.operands[0], path) else _END_OF_ARCHIVE
        except KeyboardInterrupt:
            return _INTERRUPTED
        except Exception:
            return None

    def fetch_ahead(self, spool: "SpoolLead") -> None:
        """Fetch what a recovery will ask for next."""
        from opskit.model.wal import WalSegment
        from opskit.operations.wal_ahead import fetch_ahead

        repository, cluster = self._archive()
        archive = repository.known_wal(cluster)
        last = WalSegment.parse(spool.last, archive.segment_bytes)
        fetch_ahead(archive, repository.system_identifier(cluster), last.next(), spool)

    def _archive(self) -> "tuple[Claims, str]":
        from pathlib import Path

        from opskit.config import load_settings
        from opskit.repository.claims import Claims
        from opskit.store import open_store

        config = self._options.get("--config")
        settings = load_settings(Path(config) if config is not None else None)
        cluster = settings.only_cluster(self._options.get("--cluster"))
        return Claims(open_store(settings.repository_url)), cluster.name
