"""papermill's client and manager of a run, made to say only what is true, and nothing secret."""

from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import CellExecutionError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NotebookExecutionManager
from papermill.iorw import LocalHandler, papermill_io

from opskit.model.secrets import Scrubber
from opskit.runbooks._kernel import OwnKernelManager
from opskit.runbooks._output import Messages, write_whole
from opskit.runbooks._stop import StopRequest


def local_path(output_path: str | None) -> Path | None:
    """Where a local file will be, whichever directory the notebook runs in; `None` when it is none."""
    if output_path is None:
        return None
    if not isinstance(papermill_io.get_handler(output_path), LocalHandler):
        return None
    handler = papermill_io.get_handler("local")
    kept = handler.cwd(None)  # papermill tells it where it was called; there is no other way to ask
    handler.cwd(kept)
    return Path(kept or ".").absolute() / output_path


class _WholeFile(LocalHandler):  # type: ignore[misc]
    """papermill's last write of a notebook: as the ones before, it is whole or not at all, and its owner's alone."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def write(self, buf: str, path: str) -> None:
        write_whole(self._path, buf)


class Manager(NotebookExecutionManager):  # type: ignore[misc]
    """Keeps the notebook on disk while its cells run, and says of them only what is true."""

    def __init__(self, notebook: Any, *, output_path: str | None, **options: Any) -> None:
        super().__init__(notebook, output_path=output_path, **options)
        path = local_path(output_path)
        if path is not None and output_path is not None:
            papermill_io.register(output_path, _WholeFile(path))

    def save(self, **_: Any) -> None:
        """Write the notebook, without asking whether it is a valid one: that costs more than the cell, often."""
        if self.output_path:
            papermill_io.write(nbformat.v4.writes(self.nb), self.output_path)
        self.last_save_time = self.now()

    def notebook_complete(self, **_: Any) -> None:
        """Note the end; cells that never began stay pending."""
        self.end_time = self.now()
        state = self.nb.metadata.papermill
        state["end_time"] = self.end_time.isoformat()
        if self.start_time is not None:
            state["duration"] = (self.end_time - self.start_time).total_seconds()
        self.complete_pbar()
        self.cleanup_pbar()
        self.save()


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client with a kernel of our own, that hides secrets from the outputs it takes."""

    def __init__(
        self,
        manager: Manager,
        stop: StopRequest,
        secrets: Scrubber,
        *,
        answered_for: str,
        **options: Any,
    ) -> None:
        super().__init__(manager, kernel_name="python3", **options)
        self.stop, self.secrets = stop, secrets
        self.raised: CellExecutionError | None = None
        self.connection_directory: str | None = None
        self._answered_for = answered_for
        self._messages = Messages(secrets)

    def create_kernel_manager(self) -> OwnKernelManager:
        """The running interpreter's kernel, below its guard."""
        self.km = OwnKernelManager(answered_for=self._answered_for)
        if self.connection_directory:
            self.km.connection_file = str(Path(self.connection_directory) / "kernel.json")
        self.km.client_class = "jupyter_client.asynchronous.AsyncKernelClient"
        return self.km

    def papermill_execute_cells(self) -> None:
        """Execute the cells until one raises, or somebody asks for the end."""
        manager: Any = self.km
        self.stop.kernel = manager.provisioner.pid
        try:
            for index, cell in enumerate(self.nb.cells):
                self.stop.check()
                if cell.cell_type == "code":
                    self._execute(cell, index)
                elif self.nb_man.pbar:
                    self.nb_man.pbar.update(1)
                if self.raised is not None:
                    break
        finally:
            self.stop.kernel = None

    def _execute(self, cell: Any, index: int) -> None:
        self.nb_man.cell_start(cell, index)
        try:
            self.execute_cell(cell, index)
        except CellExecutionError as error:
            self.raised = error
            self.nb_man.cell_exception(cell, cell_index=index, exception=error)
        except BaseException:
            # the cell of a lost kernel is not complete
            self.nb_man.cell_exception(cell, cell_index=index)
            raise
        finally:
            self.stop.cell_ends()
        self.nb_man.cell_complete(cell, cell_index=index)

    def process_message(self, msg: dict[str, Any], *arguments: Any) -> Any:
        """Take what the kernel sent, without secrets."""
        if msg["msg_type"] == "execute_input":
            self.stop.cell_begins()
        self._messages.scrub(msg)
        return super().process_message(msg, *arguments)

    def output(self, outs: list[Any], msg: dict[str, Any], *arguments: Any) -> Any:
        """Take an output; what is printed goes on where it stopped, so that no secret is cut in two."""
        return self._messages.append(outs, msg) or super().output(outs, msg, *arguments)
