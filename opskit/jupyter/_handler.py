"""What the server answers to a request for a download.

An address without a version is answered by a redirect to one with it, whose bytes never change: parts that are fetched
at once, or after a cut, belong together. A part that is asked of an address without a version is given only where
``If-Range`` names the version; otherwise the answer is the whole (RFC 9110, section 13.1.5).
"""

import asyncio
import re
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
from opskit.model.backup import BaseBackup
from opskit.operations.download import ArchiveFormat, archive_name
from opskit.operations.download_version import Version, VersionedArchive

if TYPE_CHECKING:
    from opskit.cluster import Cluster

PLACE = "opskit/download/"
# As they stand in the URL: what is written in another way, with '%2e' or a letter of another script, is no name.
_NAMES = re.compile(r"([a-z0-9][a-z0-9_-]{0,62})/([0-9]{8}T[0-9]{6}Z|latest)")
_TAG = re.compile(r'"([^"]*)"')
_ANONYMOUS = "Anonymous "  # how Jupyter calls whoever has its token, and no name; with another one at each request


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
        wanted = Wanted(
            user=self._who(),
            cluster=backup.cluster,
            backup=backup.name,
            version=str(found.version),
            name=archive_name(backup, ArchiveFormat.TAR_ZST),
            length=found.archive.length,
        )
        if self.request.method == "HEAD":
            self._describe(wanted, part)
            self.finish()
            return
        loop = asyncio.get_running_loop()

        def cut() -> None:
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(self.cut)

        transfer = self._transfers.request(source, wanted, cut, part)
        start, stop = part or (0, wanted.length)

        def took(count: int) -> None:
            nonlocal start
            transfer.handed_over(start, start + count)
            start += count

        failure, under_way = None, 0
        try:
            await asyncio.wrap_future(transfer.recorded)
            self._describe(wanted, part)
            under_way = await self.stream(found.archive.read(start, stop), took)
        except Exception as error:
            failure = error if isinstance(error, OpskitError) else unexpected(error)
            if not self._headers_written:
                self.clear()
                raise
            self.log.error("the download of %s is cut: %s", wanted.name, failure.message)
            self.cut()
        finally:
            transfer.leave(cut, (start, start + under_way), failure)

    def _describe(self, wanted: Wanted, part: tuple[int, int] | None) -> None:
        start, stop = part or (0, wanted.length)
        if part is not None:
            self.set_status(206)
            self.set_header("Content-Range", f"bytes {start}-{stop - 1}/{wanted.length}")
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Content-Type", "application/zstd")
        self.set_header("Content-Disposition", f'attachment; filename="{wanted.name}"')
        self.set_header("Content-Length", str(stop - start))

    def _who(self) -> str:
        user = self.current_user
        return "anonymous" if user.name.startswith(_ANONYMOUS) else str(user.username)
