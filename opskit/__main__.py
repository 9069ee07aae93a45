"""``python -m opskit``: the same as the command ``opskit``."""

import sys

from opskit.cli import main

sys.exit(main())
