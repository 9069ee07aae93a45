"""``/metrics`` over HTTP."""

import time
from collections.abc import Callable

from prometheus_client import start_http_server

from opskit.errors import ErrorKind, InputError
from opskit.metrics._exposition import Metrics

_POLL_SECONDS = 0.1


def serve(
    metrics: Metrics,
    host: str,
    port: int,
    *,
    stopped: Callable[[], bool],
    ready: Callable[[], None],
) -> None:
    """Answer until it is stopped, which is asked several times a second.

    Raises
    ------
    InputError
        Nobody can listen there.
    """
    try:
        server, thread = start_http_server(port, addr=host, registry=metrics.registry)
    except OSError as error:
        raise InputError(
            f"nobody can listen at '{host}:{port}': {(error.strerror or str(error)).lower()}",
            ErrorKind.WRONG_INPUT,
            "Name an address of this machine and a port that is free.",
        ) from None
    try:
        ready()
        while not stopped():
            time.sleep(_POLL_SECONDS)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
