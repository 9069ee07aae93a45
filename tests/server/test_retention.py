"""After an expire, every kept backup restores to every point that was promised, and the rest is gone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from opskit.errors import ConflictError, InputError, NotFoundError, RecoveryError
from tests.servers import ServerFactory
from tests.support.command import run_command
from tests.support.streams import caught_up, streaming

POLICY = "retention = { on_demand = 2 }\n"


def with_policy(settings: Settings) -> Settings:
    """The settings with a policy for their only cluster, which the file ends with."""
    assert settings.file is not None
    with settings.file.open("a", encoding="utf-8") as file:
        file.write(POLICY)
    return load_settings(settings.file)


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_the_kept_backups_restore_to_every_promised_time(
    server: ServerFactory, settings: Callable[..., Settings], scratch: Path
) -> None:
    """Four backups with rows between, two kept, one of them deleted: what is told to be lost is, the rest is not."""
    source = server(wal_segment_megabytes=1)
    main = Cluster("main", with_policy(settings(source)))
    source.query("CREATE TABLE events (i int)")
    points: list[tuple[str, int]] = []
    names: list[str] = []
    with streaming(source, main.repository):
        for number in range(4):
            names.append(main.create_backup().name)
            source.query(f"INSERT INTO events SELECT generate_series(1, {1000 * (number + 1)})")
            told = source.query(
                f"SELECT pg_create_restore_point('p{number}'), (SELECT count(*) FROM events)"
            ).rows[0]
            points.append((f"p{number}", int(told[1])))
            source.query("SELECT pg_switch_wal()")
        caught_up(source, lambda: main.repository.known_wal("main"))

    before = main.recoverable()
    main.hold(names[1], "audit", until="2100-01-01T00:00:00Z")
    shown = main.what_if()
    assert list(shown.backups["keep"]) == [True, True, True, False]
    assert "held until 2100-01-01" in shown.backups["reasons"][2]
    assert shown.freed_bytes > 0
    [lost] = shown.lost.itertuples()
    assert lost.from_at == before["from_at"].iloc[-1]
    assert lost.to_at == before["from_at"].iloc[-2]
    assert "cannot be restored any more" in repr(shown) or "no point in time" in repr(shown)
    main.release(names[1])
    assert list(main.what_if({"on_demand": 1}).backups["keep"]) == [True, False, False, False]

    dry = run_command(main.settings, "expire", "main", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "on demand, behind the newest 2" in dry.stdout
    assert len(main.backups()) == 4

    done = run_command(main.settings, "expire", "main")
    assert done.returncode == 0, done.stderr
    assert "removed: 2 backups" in done.stdout
    assert list(main.backups()["name"]) == names[:1:-1]
    assert "nothing is to be removed" in run_command(main.settings, "expire", "main").stdout
    assert not [gap for gap in main.wal_status().gaps if gap.matters]

    asked = run_command(main.settings, "delete", "main", names[3])
    assert (asked.returncode, "pass --yes" in asked.stderr) == (2, True)
    assert "to be removed: 1 backup" in asked.stdout
    assert list(main.backups()["name"]) == names[:1:-1]
    done = run_command(main.settings, "delete", "main", names[3], "--yes")
    assert done.returncode == 0, done.stderr
    assert "removed: 1 backup, 0 WAL segments" in done.stdout
    assert list(main.backups()["name"]) == [names[2]]
    with pytest.raises(ConflictError, match="is the last one"):
        main.delete(names[2])
    assert main.audit()[["what", "backup", "outcome"]].iloc[0].tolist() == [
        "delete",
        names[3],
        "complete",
    ]

    with pytest.raises(RecoveryError):
        main.restore(scratch / "gone", restore_point="p1")
    for point, rows in points[2:]:
        copy = main.restore(scratch / point, restore_point=point)
        with copy.started() as running:
            assert running.query("SELECT count(*) FROM events").iat[0, 0] == rows
    kinds = [entry for entry in main.operations()["kind"] if entry in ("hold", "release", "expire")]
    assert kinds == ["expire", "release", "hold"]
    main.catalog.close()


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_holds_are_placed_once_and_end(
    server: ServerFactory, settings: Callable[..., Settings]
) -> None:
    """A second hold, one that has passed, one on nothing, and a release of nothing are refused."""
    source = server(wal_segment_megabytes=1)
    main = Cluster("main", settings(source))
    name = main.create_backup().name
    placed = run_command(main.settings, "hold", "main", name, "--reason", 'Prüfung "2026"')
    assert placed.returncode == 0
    assert placed.stdout.startswith(f"{name} is held by ")
    assert list(main.holds()["reason"]) == ['Prüfung "2026"']
    with pytest.raises(ConflictError, match="held already"):
        main.hold(name)
    with pytest.raises(InputError, match="has passed"):
        main.hold(name, until="2020-01-01T00:00:00Z")
    with pytest.raises(NotFoundError, match="no backup"):
        main.hold("20200101T000000Z")
    assert run_command(main.settings, "release", "main", name).returncode == 0
    again = run_command(main.settings, "release", "main", name)
    assert (again.returncode, "is not held" in again.stderr) == (3, True)
    with pytest.raises(InputError, match="has no retention"):
        main.what_if()
    main.catalog.close()
