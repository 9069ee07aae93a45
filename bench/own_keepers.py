"""opskit, and PostgreSQL's own programs with ``zstd`` and ``tar``: what everybody has."""

import os
import shlex

from bench.keepers import Kind
from bench.measure import Cost
from bench.place import Place
from opskit.postgres.server import LocalServer

# Whatever is asked for is taken: the contests decide what is an increment, not opskit's rules.
INCREMENTAL_RULES = "incremental = { increments = 100, days = 100, percent = 100 }"


class OpskitKeeper:
    """opskit, as it is installed: zstd at level 1, synced, each file of the repository by its SHA-256."""

    kind, label = Kind.OPSKIT, "opskit"

    def __init__(self, place: Place, cluster: str) -> None:
        self._place, self.cluster, self._names = place, cluster, list[str]()

    def full(self) -> Cost:
        """Take one."""
        return self._backup("--full")

    def increment(self) -> Cost:
        """Take one, on the newest backup."""
        return self._backup("--incremental")

    def drop_newest(self) -> None:
        """As if it had not been taken."""
        self._place.remove(f"{self._folder}/{self._names.pop()}")

    def drop_all(self) -> None:
        """No backup."""
        self._place.remove_backups(self.cluster)
        self._names.clear()

    def stored_bytes(self) -> int:
        """WAL that makes a backup whole included."""
        return self._place.stored_bytes(self._folder)

    def restore(self) -> Cost:
        """The newest."""
        return self._restore(self._names[-1])

    def restore_first(self) -> Cost:
        """The full backup that the others are based on."""
        return self._restore(self._names[0])

    def clear_restored(self) -> None:
        """Put it aside."""
        self._place.put_aside("restored")

    def verify(self) -> Cost:
        """A download holds each volume against its SHA-256; no command of opskit's does only that yet."""
        return self.download()

    def download(self) -> Cost:
        """The newest, as one archive."""
        target = str(self._place.directory / "downloaded.tar.zst")
        return self._place.opskit("download", self.cluster, self._names[-1], "--output", target)[0]

    def clear_downloaded(self) -> None:
        """No archive."""
        self._place.remove("downloaded.tar.zst")

    def consolidate(self) -> Cost:
        """Make a full backup of the newest and its chain."""
        return self._place.opskit("consolidate", self.cluster, self._names[-1])[0]

    def keep_copy(self) -> None:
        """Have links to all there is, before `consolidate`: files of a repository never change, they are replaced."""
        self._place.shell(f"rm -rf kept-aside && cp -al repository/{self.cluster} kept-aside")

    def back_to_copy(self) -> None:
        """As it was at `keep_copy`."""
        own = f"repository/{self.cluster}"
        self._place.shell(f"rm -rf {own} && cp -al kept-aside {own}")

    def _backup(self, kind: str) -> Cost:
        cost, said = self._place.opskit("backup", self.cluster, kind)
        self._names.append(said.split()[-1])
        return cost

    def _restore(self, name: str) -> Cost:
        target = str(self._place.directory / "restored")
        return self._place.opskit("restore", self.cluster, target, "--backup", name)[0]

    @property
    def _folder(self) -> str:
        return f"repository/{self.cluster}/backups"


class NativeKeeper:
    """``pg_basebackup`` piped into ``zstd -1 -T0``; what it kept is unpacked, and combined by ``pg_combinebackup``."""

    kind, label = Kind.NATIVE, "pg_basebackup | zstd -1 -T0 > file; sync"

    def __init__(self, place: Place, server: LocalServer) -> None:
        self._place, self._server, self._count = place, server, 0
        place.make("native")

    def full(self) -> Cost:
        """Take one."""
        return self._take("")

    def increment(self) -> Cost:
        """Take one, on the newest; its manifest is got out of the archive beforehand."""
        manifest = f"native/{self._count}.manifest"
        if not (self._place.directory / manifest).exists():
            self._place.shell(
                f"zstd -qdc native/{self._count}.tar.zst | tar -xO backup_manifest > {manifest}"
            )
        return self._take(f"--incremental={manifest}")

    def drop_newest(self) -> None:
        """As if it had not been taken."""
        for suffix in ("tar.zst", "manifest"):
            self._place.remove(f"native/{self._count}.{suffix}")
        self._count -= 1

    def drop_all(self) -> None:
        """No archive."""
        self._place.remove("native")
        self._place.make("native")
        self._count = 0

    def stored_bytes(self) -> int:
        """Without the manifests beside the archives, which have them too."""
        files = (self._place.directory / "native").glob("*.tar.zst")
        return sum(file.stat().st_size for file in files)

    def restore(self) -> Cost:
        """The newest; of a chain all are unpacked first, as many at a time as there are processors."""
        if self._count == 1:
            return self._place.shell(
                "mkdir tar && zstd -qdc native/1.tar.zst | tar -x -C tar; sync -f tar"
            )
        return self._place.shell(self._combining("tar"))

    def clear_restored(self) -> None:
        """Put it aside."""
        for name in ("tar", "parts"):
            self._place.put_aside(name)

    def pack_chain(self) -> Cost:
        """Make one archive of the newest and what it is based on."""
        pack = "tar -c -C tar . | zstd -q -1 -T0 > packed.tar.zst; sync packed.tar.zst"
        return self._place.shell(f"{self._combining('tar')}; {pack}")

    def clear_packed(self) -> None:
        """Neither the archive nor what it was made of."""
        self.clear_restored()
        self._place.remove("packed.tar.zst")

    def verify(self) -> Cost:
        """The newest only; compressed tar is what ``pg_verifybackup`` reads from 18 on, and not in every build."""
        unpack = f"mkdir parts && zstd -qdc native/{self._count}.tar.zst | tar -x -C parts"
        check = shlex.join([str(self._server.programs.path("pg_verifybackup")), "-n", "-q"])
        return self._place.shell(f"{unpack}; {check} parts")

    def _combining(self, target: str) -> str:
        numbers = range(1, self._count + 1)
        unpack = "mkdir -p parts/{} && zstd -qdc native/{}.tar.zst | tar -x -C parts/{}"
        combine = str(self._server.programs.path("pg_combinebackup"))
        parts = " ".join(f"parts/{number}" for number in numbers)
        each = f"seq {self._count} | xargs -P {os.cpu_count()} -I{{}} bash -c {shlex.quote(unpack)}"
        return f"{each}; {shlex.quote(combine)} {parts} -o {target}"

    def _take(self, more: str) -> Cost:
        words = ["-D", "-", "-Ft", "-X", "fetch", "-c", "fast", "-d", self._server.conninfo()]
        words = [
            str(self._server.programs.path("pg_basebackup")),
            *words,
            *([more] if more else []),
        ]
        target = f"native/{self._count + 1}.tar.zst"
        cost = self._place.shell(f"{shlex.join(words)} | zstd -q -1 -T0 > {target}; sync {target}")
        self._count += 1
        return cost
