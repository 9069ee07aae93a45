"""The papermill engine ``opskit``: what ``papermill --engine opskit MASTER OUT -p NAME VALUE`` asks for.

papermill loads every registered engine whenever it is imported, so this module imports nothing until it is used.
"""

from typing import Any


class OpskitEngine:
    """Runs a notebook that keeps the contract of runbooks; see `opskit.runbooks._execution.execute`.

    It is no subclass of papermill's `Engine`, whose module may be half imported when this one is loaded.
    """

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, **options: Any) -> Any:
        """Run the parametrized notebook `nb`, and return it executed."""
        from opskit.runbooks._execution import execute

        return execute(nb, **options)

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """Whatever the notebook says: the kernel is the running interpreter's own."""
        return "python3"

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """What runbooks are written in."""
        return "python"
