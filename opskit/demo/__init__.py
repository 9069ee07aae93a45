"""The demo: a PostgreSQL of one's own with a small shop's data, and the configuration to back it up.

*Demo directory*: where ``opskit.toml`` stands, and later the repository, the catalog and the reports.
*Server directory*: where the demo's cluster is: below the demo directory, or elsewhere when it cannot be there.
"""

from opskit.demo._data import DemoDatabase as DemoDatabase
from opskit.demo._demo import DemoResult as DemoResult
from opskit.demo._demo import DemoState as DemoState
from opskit.demo._demo import start_demo as start_demo
from opskit.demo._demo import stop_demo as stop_demo
