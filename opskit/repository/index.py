"""``index.json.zst``: which volumes a backup has, and which members each of them holds."""

import json
from array import array
from collections.abc import Sequence
from typing import Any

from opskit.errors import ErrorKind, IntegrityError
from opskit.repository.blocks import Blocks
from opskit.repository.compression import compress, decompress
from opskit.repository.volumes import Member, Volume

# 2 where members tell their blocks: an increment's; 3 where volumes tell the sizes of their frames' contents.
_FORMATS = (1, 2, 3)
_KEYS = ("name", "stored_bytes", "tar_bytes", "sha256")


def write_index(volumes: Sequence[Volume]) -> bytes:
    """The compressed index of `volumes`."""
    increments = any(m.blocks is not None for volume in volumes for m in volume.members)
    irregular = any(volume.frame_bytes for volume in volumes)
    data = {
        "format": 3 if irregular else 2 if increments else 1,
        "volumes": [
            {
                **{key: getattr(volume, key) for key in _KEYS},
                "frames": volume.frames,
                **({"frame_bytes": volume.frame_bytes} if volume.frame_bytes else {}),
                "members": [
                    m[:3] if m.blocks is None else (*m[:3], list(m.blocks.numbers), *m.blocks[1:])
                    for m in volume.members
                ],
            }
            for volume in volumes
        ],
    }
    # A name that is no UTF-8 is carried as lone surrogates, which ASCII JSON can escape.
    return compress(json.dumps(data, separators=(",", ":"), ensure_ascii=True).encode())


def read_index(content: bytes) -> list[Volume]:
    """The volumes that a compressed index describes.

    Raises
    ------
    IntegrityError
        It is damaged or of a format that this opskit does not read.
    """
    try:
        data = json.loads(decompress(content))
        if data["format"] not in _FORMATS:
            raise IntegrityError(
                f"the backup's index is of format {data['format']!r}, this opskit reads 1 to 3",
                ErrorKind.UNKNOWN_FORMAT,
                "Use the opskit that wrote it, or a newer one.",
            )
        return [
            Volume(
                **{key: item[key] for key in _KEYS},
                frames=tuple(item["frames"]),
                frame_bytes=tuple(item.get("frame_bytes", ())),
                members=tuple(
                    Member(m[0], m[1], m[2], _blocks(m[3:]) if len(m) > 3 else None)
                    for m in item["members"]
                ),
            )
            for item in data["volumes"]
        ]
    except IntegrityError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise IntegrityError(
            f"the backup's index cannot be read: {type(error).__name__}: {error}",
            ErrorKind.TRUNCATED,
        ) from None


def _blocks(stored: list[Any]) -> Blocks:
    numbers, truncation, block_bytes = stored
    return Blocks(array("I", numbers), int(truncation), int(block_bytes))
