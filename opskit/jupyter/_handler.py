"""What the server answers to a request for a download.

An address of a full backup without a version is answered by a redirect to one with it, whose bytes never change: parts
that are fetched at once, or after a cut, belong together. A part that is asked of an address without a version is given
only where ``If-Range`` names the version; otherwise the answer is the whole (RFC 9110, section 13.1.5). An increment's
archive is put together on the way: it has no version, no parts and no length. If it was cut its last chunk is missing.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from jupyter_server.auth.decorator import authorized
from tornado import web

from opskit.errors import InputError, NotFoundError, OpskitError, unexpected
from opskit.jupyter._archives import Archives
from opskit.jupyter._ranges import Unsatisfiable, asked_range, names_tag
from opskit.jupyter._streaming import StreamingHandler
from opskit.jupyter._transfers import Transfers, Wanted
from opskit.model.backup import BackupKind, BaseBackup
from opskit.operations.download import ArchiveFormat, archive_name
from opskit.operations.download_version import Version, VersionedArchive

if TYPE_CHECKING:
    from opskit.cluster import Cluster

PLACE = "opskit/download/"
# As they stand in the URL: what is written in another way, with '%2e' or a letter of another script, is no name.
_NAMES = re.compile(r"([a-z0-9][a-z0-9_-]{0,62})/([0-9]{8}T[0-9]{6}Z|latest)")
_TAG = re.compile(r'"([^"]*)"')
_ANONYMOUS = "Anonymous "  # how Jupyter calls whoever has its token, and no name; with another one at each request

_Send = Callable[[Callable[[int], None]], Awaitable[int]]


class DownloadHandler(StreamingHandler):
    """``GET`` and ``HEAD`` of ``opskit/download/<cluster>/<backup>``, below the server's base URL."""

    auth_resource = "opskit"

    def initialize(  # type: ignore[override]
        self, threads: Executor, archives: Archives, transfers: Transfers
    ) -> None:
        """Take what all requests share."""
        super().initialize(threads)
        self._archives, self._transfers = archives, transfers
        self._tag: str | None = None

    @web.authenticated
    @authorized
    async def head(self) -> None:
        """Tell what a download is, and how long."""
        await self._answer()

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send a download, or a part of it."""
        await self._answer()

    def compute_etag(self) -> str | None:
        """The version as a strong entity tag; words have none."""
        return None if self._tag is None else f'"{self._tag}"'

    async def _answer(self) -> None:
        self.check_foreign()
        try:
            source, backup = await self._named()
            if backup.kind is not BackupKind.FULL and not self.get_query_arguments("version"):
                await self._send_made(source, backup)
                return
            found, is_fixed = await self._found(source, backup)
            if not is_fixed and "Range" not in self.request.headers:
                self._lead_to(backup, found.version)
            elif self._may_send(found.version):
                await self._send(source, backup, found, self._part(found) if is_fixed else None)
        except Unsatisfiable:
            self.set_header("Content-Range", f"bytes */{found.archive.length}")
            self.say(416, f"the download has {found.archive.length} bytes")
        except OpskitError as error:
            self.say(404 if isinstance(error, NotFoundError) else 500, error.message, error.hint)

    async def _named(self) -> "tuple[Cluster, BaseBackup]":
        names = _NAMES.fullmatch(self.request.path.removeprefix(self.base_url + PLACE))
        if names is None:
            raise NotFoundError("there is no such backup", hint="List them with 'opskit backups'.")
        return await self.off_loop(lambda: self._archives.backup(names[1], names[2]))

    async def _found(self, source: "Cluster", backup: BaseBackup) -> tuple[VersionedArchive, bool]:
        """The archive that is asked for, and whether a part of it may be given."""
        named = self.get_query_argument("version", None)
        if named is not None:
            try:
                version = Version.parse(named)
            except InputError as error:
                raise NotFoundError(error.message, hint=error.hint) from None
            archive = await self.off_loop(lambda: self._archives.same(source, backup, version))
            return archive, "If-Range" not in self.request.headers or self._if_range() == version
        held = self._if_range()
        if held is not None:
            with suppress(NotFoundError):
                return await self.off_loop(lambda: self._archives.same(source, backup, held)), True
        wal = self.get_query_argument("wal", "yes") != "no"
        return await self.off_loop(lambda: self._archives.newest(source, backup, wal=wal)), False

    def _if_range(self) -> Version | None:
        tag = _TAG.fullmatch(self.request.headers.get("If-Range", ""))
        with suppress(InputError):
            return None if tag is None else Version.parse(tag[1])
        return None

    def _lead_to(self, backup: BaseBackup, version: Version) -> None:
        """Redirect to the version: relative, so that a hub's or a proxy's prefix stays."""
        query = {"version": str(version)}
        token = self.get_query_argument("token", None)
        if token is not None:  # what let this request in has to let the next one in
            query["token"] = token
        self.set_status(302)
        self.set_header("Location", f"{backup.name}?{urlencode(query)}")
        self.finish()

    def _may_send(self, version: Version) -> bool:
        """Whether the conditions hold that the client has set; if not, that is the answer."""
        self._tag = str(version)
        self.set_etag_header()
        headers = self.request.headers
        if "If-Match" in headers and not names_tag(headers["If-Match"], self._tag, strongly=True):
            self.say(412, "the download has changed since it began")
            return False
        if names_tag(headers.get("If-None-Match", ""), self._tag, strongly=False):
            self.set_status(304)
            self.finish()
            return False
        return True

    def _part(self, found: VersionedArchive) -> tuple[int, int] | None:
        asked = self.request.headers.get("Range") if self.request.method == "GET" else None
        return asked_range(asked, found.archive.length)

    async def _send(
        self,
        source: "Cluster",
        backup: BaseBackup,
        found: VersionedArchive,
        part: tuple[int, int] | None,
    ) -> None:
        wanted = self._wanted(backup, str(found.version), found.archive.length)
        start, stop = part or (0, found.archive.length)

        async def send(took: Callable[[int], None]) -> int:
            await self.off_loop(found.archive.check_sizes)
            self._describe(wanted, part)
            if self.takes_files:
                return await self.hand_over(found.archive.spans(start, stop), took)
            return await self.stream(found.archive.read(start, stop), took)

        if self.request.method == "HEAD":
            self._describe(wanted, part)
            self.finish()
        else:
            await self._transfer(source, wanted, part, send)

    async def _send_made(self, source: "Cluster", backup: BaseBackup) -> None:
        """An increment's archive: put together on the way, its length is not known, and no part can be asked for."""
        wal = self.get_query_argument("wal", "yes") != "no"
        wanted = self._wanted(backup, None, None)

        async def send(took: Callable[[int], None]) -> int:
            archive = await self.off_loop(lambda: self._archives.made(source, backup, wal=wal))
            self._describe(wanted, None)
            return await self.stream(archive.read(), took)

        if self.request.version == "HTTP/1.0":
            # It cannot tell an answer without a length from one that was cut.
            self.say(505, "this download has no length, so it needs HTTP/1.1")
        elif self.request.method == "HEAD":
            await self.off_loop(lambda: self._archives.check_made(source, backup, wal=wal))
            self._describe(wanted, None)
            self.flush()  # or else a length would be told
            self.finish()
        else:
            await self._transfer(source, wanted, None, send)

    def _wanted(self, backup: BaseBackup, version: str | None, length: int | None) -> Wanted:
        return Wanted(
            user=self._who(),
            cluster=backup.cluster,
            backup=backup.name,
            version=version,
            name=archive_name(backup, ArchiveFormat.TAR_ZST),
            length=length,
        )

    async def _transfer(
        self, source: "Cluster", wanted: Wanted, part: tuple[int, int] | None, send: _Send
    ) -> None:
        """Have `send` answer, as a request of a transfer; it tells what was under way when the connection ended."""
        loop = asyncio.get_running_loop()

        def cut() -> None:
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(self.cut)

        transfer = self._transfers.request(source, wanted, cut, part)
        position, failure, under_way = part[0] if part else 0, None, 0

        def took(count: int) -> None:
            nonlocal position
            transfer.handed_over(position, position + count)
            position += count

        try:
            await asyncio.wrap_future(transfer.recorded)
            under_way = await send(took)
            if wanted.length is None and not self.is_gone:
                self.finish()
                transfer.has_all(position)
        except Exception as error:
            failure = error if isinstance(error, OpskitError) else unexpected(error)
            if not self._headers_written:
                self.clear()
                raise
            self.log.error("the download of %s is cut: %s", wanted.name, failure.message)
            self.cut()
        finally:
            transfer.leave(cut, (position, position + under_way), failure)

    def _describe(self, wanted: Wanted, part: tuple[int, int] | None) -> None:
        if part is not None:
            self.set_status(206)
            self.set_header("Content-Range", f"bytes {part[0]}-{part[1] - 1}/{wanted.length}")
        self.set_header("Accept-Ranges", "none" if wanted.length is None else "bytes")
        self.set_header("Content-Type", "application/zstd")
        self.set_header("Content-Disposition", f'attachment; filename="{wanted.name}"')
        if wanted.length is not None:
            start, stop = part or (0, wanted.length)
            self.set_header("Content-Length", str(stop - start))

    def _who(self) -> str:
        user = self.current_user
        return "anonymous" if user.name.startswith(_ANONYMOUS) else str(user.username)
