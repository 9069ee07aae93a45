"""``python -m opskit``, or ``python -P …/opskit/__main__.py``: the same as the command ``opskit``."""

import sys

from opskit.cli import main

sys.exit(main())
