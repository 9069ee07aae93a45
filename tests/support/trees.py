"""Trees of files, compared as restores of one backup can be."""

import filecmp
import os
import re
from pathlib import Path

Tree = dict[str, str]


def tree(root: Path) -> Tree:
    """What lies below `root`: by relative path its kind, mode and place."""
    found: Tree = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
            mode = "" if kind == "link" else oct(path.stat().st_mode)
            found[str(path.relative_to(root))] = f"{kind} {mode} {path}"
    return found


def assert_same_trees(
    theirs: Tree, ours: Tree, moved: frozenset[str] | set[str] = frozenset()
) -> None:
    """The trees have the same entries, modes and bytes, but for what two backups cannot share."""

    def compared(tree: Tree) -> dict[str, str]:
        return {
            path: entry.rpartition(" ")[0] if entry.count(" ") == 2 else entry.split(" /")[0]
            for path, entry in tree.items()
            if not re.match(r"pg_wal/.", path) and path not in moved
        }

    assert compared(theirs) == compared(ours)
    own = {"backup_label", "backup_manifest", "global/pg_control"}
    for path, entry in compared(theirs).items():
        if entry.startswith("file") and path not in own:
            left, right = (
                Path(tree[path][tree[path].index(" /") + 1 :]) for tree in (theirs, ours)
            )
            assert filecmp.cmp(left, right, shallow=False), path
