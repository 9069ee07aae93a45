"""Parts of downloads: those that go on after a cut, and those that are fetched at once."""

import threading
from itertools import pairwise

from opskit.model.operation import OperationStatus
from tests.notebooks.downloads import LATEST, Place, on_ways
from tests.notebooks.panels import wait_until
from tests.notebooks.serving import Jupyter
from tests.support.archives import archived_backup


@on_ways("address", "encrypted")
def test_a_cut_download_is_gone_on_with(jupyter: Jupyter, place: Place) -> None:
    """Cut at half and taken up by a range, the bytes are the same as in one go, and it is one operation."""
    archived_backup(place.store, volumes=8, volume_bytes=4_000_000)
    path = jupyter.led(LATEST)
    whole = place.whole()
    assert jupyter.ask(path).body == whole
    half = len(whole) // 2
    connection = jupyter.connect()
    began = jupyter.begin(connection, path)
    first = began.read(half)
    began.close()
    connection.close()
    tag = began.headers["Etag"]
    rest = jupyter.ask(path, {"Range": f"bytes={half}-", "If-Range": tag})
    assert rest.status == 206
    assert rest.headers["Content-Range"] == f"bytes {half}-{len(whole) - 1}/{len(whole)}"
    assert rest.headers["Etag"] == tag
    assert first + rest.body == whole
    for operation in place.all_ended(2):
        assert operation.status is OperationStatus.COMPLETE
        assert operation.result == {
            "bytes": len(whole),
            "first_byte": 0,
            "of_bytes": len(whole),
        }


def test_parts_are_fetched_at_once(jupyter: Jupyter, place: Place) -> None:
    """Four ranges in four connections, in whatever order, make the whole and one operation."""
    archived_backup(place.store, volumes=4, volume_bytes=1_500_000)
    path = jupyter.led(LATEST)
    whole = place.whole()
    cuts = [0, 1, len(whole) // 3, len(whole) // 2 + 7, len(whole)]
    parts: dict[int, bytes] = {}

    def fetch(start: int, stop: int) -> None:
        parts[start] = jupyter.ask(path, {"Range": f"bytes={start}-{stop - 1}"}).body

    threads = [threading.Thread(target=fetch, args=span) for span in pairwise(cuts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b"".join(parts[start] for start in cuts[:-1]) == whole
    assert place.ended().status is OperationStatus.COMPLETE


def test_what_a_range_may_be(jupyter: Jupyter, place: Place) -> None:
    """The end by a suffix; behind the end nothing; what cannot be read, or is of another version, gets the whole."""
    archived_backup(place.store)
    path = jupyter.led(LATEST)
    whole = place.whole()
    length = len(whole)
    tag = f'"{path.partition("=")[2]}"'
    last = jupyter.ask(path, {"Range": "bytes=-10"})
    assert (last.status, last.body) == (206, whole[-10:])
    behind = jupyter.ask(path, {"Range": f"bytes={length}-"})
    assert (behind.status, behind.headers["Content-Range"]) == (416, f"bytes */{length}")
    for headers in (
        {"Range": "bytes=one-two"},
        {"Range": "bytes=0-1,5-6"},
        {"Range": "bytes=9-3"},
        {"Range": "bytes=0-9", "If-Range": '"another"'},
    ):
        given = jupyter.ask(path, headers)
        assert (given.status, given.body) == (200, whole), headers
    unversioned = path.partition("?")[0]
    given = jupyter.ask(unversioned, {"Range": "bytes=1-"})
    assert (given.status, given.body) == (200, whole)
    part = jupyter.ask(unversioned, {"Range": "bytes=1-", "If-Range": tag})
    assert (part.status, part.body) == (206, whole[1:])
    assert jupyter.ask(path, {"If-Match": '"another"'}).status == 412
    assert jupyter.ask(path, {"If-None-Match": tag}).status == 304
    wait_until(
        lambda: {o.status for o in place.operations()} <= {"complete", "cancelled"}, "all ended"
    )
