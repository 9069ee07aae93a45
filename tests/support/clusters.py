"""Configured clusters of test servers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.postgres.server import LocalServer

ClusterMaker = Callable[[LocalServer], Cluster]


@contextmanager
def clusters(settings: Callable[[LocalServer], Settings]) -> Iterator[ClusterMaker]:
    """Makes the cluster ``main`` as seen from a server; their catalogs are closed at the end."""
    made: list[Cluster] = []

    def make(server: LocalServer) -> Cluster:
        made.append(Cluster("main", settings(server)))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.catalog.close()
