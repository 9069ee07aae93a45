"""What a restore refuses before it touches anything."""

from pathlib import Path

import pytest

from opskit.errors import ConflictError, InputError
from opskit.model.backup import Tablespace
from opskit.operations.restore import Layout, plan_restore
from tests.support.records import EPOCH, record

SPACES = tuple(
    Tablespace(oid=oid, name=str(oid), location=f"/srv/{oid}", tablespace_bytes=0)
    for oid in (16384, 16385)
)


@pytest.mark.parametrize(
    "places",
    [
        {16384: "space", 16385: "space"},
        {16384: "space", 16385: "space/inner"},
        {16384: "data/base"},
        {16384: "."},
        {16384: "elsewhere/../data"},
        {16384: "/srv/16385"},
    ],
)
def test_tablespaces_are_kept_apart(places: dict[int, str], tmp_path: Path) -> None:
    """Two in one place, in each other or in the data directory are refused, and nothing is made."""
    backup = record(EPOCH, tablespaces=SPACES)
    wanted = {oid: tmp_path / place for oid, place in places.items()}
    with pytest.raises(InputError, match="expected places apart"):
        plan_restore(backup, tmp_path / "data", layout=Layout.DATA_DIRECTORY, tablespaces=wanted)
    assert list(tmp_path.iterdir()) == []


def test_tablespaces_apart_are_planned(tmp_path: Path) -> None:
    """Places beside each other are taken, also where one's name begins like another's."""
    wanted = {16384: tmp_path / "data-1", 16385: tmp_path / "data-12"}
    plan = plan_restore(
        record(EPOCH, tablespaces=SPACES),
        tmp_path / "data",
        layout=Layout.DATA_DIRECTORY,
        tablespaces=wanted,
    )
    assert plan.folders == (tmp_path / "data", *wanted.values())


@pytest.mark.parametrize("left", ["snapshot", "snapshot/data/global/pg_control.unfinished"])
def test_what_a_killed_restore_left_is_told(left: str, tmp_path: Path) -> None:
    """However early it was killed, the next one says what lies there and what to do; it removes nothing by itself."""
    (tmp_path / "data" / left).mkdir(parents=True)
    with pytest.raises(ConflictError, match="did not end") as refused:
        plan_restore(record(EPOCH), tmp_path / "data")
    assert refused.value.hint == "Remove it and restore again."
