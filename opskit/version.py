"""opskit's version, written here once: the package's metadata takes it from this file.

Reading it from the installed metadata instead would load an e-mail parser into every `opskit wal get`.
"""

__version__ = "0.1.0"
