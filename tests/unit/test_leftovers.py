"""What ends a session of tests finds what the session left."""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from opskit.postgres.account import server_account
from tests.support.leftovers import leftovers, marked_environment


def test_what_a_session_leaves_is_found(tmp_path: Path) -> None:
    """A process, a temporary file, a server's socket and its memory are each told; nobody else's is."""
    began = time.time() - 1
    environment = {**os.environ, **marked_environment(tmp_path)}
    assert leftovers(tmp_path, began, others=True) == []
    file = Path(environment["TMPDIR"], "file")
    file.touch()
    sockets = Path(tempfile.mkdtemp(prefix="opskit-", dir="/tmp"))
    (sockets / ".s.PGSQL.5432.lock").write_text(f"1\n{tmp_path}/data\n")
    memory = Path(f"/dev/shm/PostgreSQL.{secrets.randbelow(2**31)}")
    memory.touch()
    if account := server_account():
        os.chown(memory, account.uid, account.gid)
    try:
        pipe = subprocess.PIPE
        with subprocess.Popen(["cat"], stdin=pipe, stdout=pipe, env=environment) as process:
            assert process.stdin and process.stdout
            os.write(process.stdin.fileno(), b"x")
            assert process.stdout.read(1) == b"x", "it runs: before, it has no environment yet"
            found = leftovers(tmp_path, began, others=False, patience=0)
            assert leftovers(tmp_path / "other", began, others=True, patience=0) == []
            process.kill()
        assert {
            f"process {process.pid}: cat",
            f"temporary file {file}",
            f"socket directory {sockets}",
            f"shared memory {memory}",
        } <= set(found)
    finally:
        memory.unlink()
        shutil.rmtree(sockets)
    file.unlink()
    assert leftovers(tmp_path, began, others=True) == []
