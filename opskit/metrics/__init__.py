"""What Prometheus is told of the clusters, in its text format, as a file or over HTTP.

A *sample* that could not be read is absent; that it could not is told by ``opskit_up`` and ``opskit_source_up``. A
wrong 0 would be worse than nothing. The files ``grafana.json`` and ``rules.yml`` beside this use these metrics only.
"""

from opskit.metrics._collect import collect
from opskit.metrics._exposition import Metrics, shipped, write_file
from opskit.metrics._listen import serve

__all__ = ["Metrics", "collect", "serve", "shipped", "write_file"]
