"""zstd frames, whole or in pieces."""

from collections.abc import Iterable, Iterator

import zstandard

_FED_BYTES = 128 << 10  # what comes of it is written, or joined, while the processor has it at hand


def compress(content: bytes) -> bytes:
    """One zstd frame with its size and checksum."""
    compressed: bytes = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(content)
    return compressed


def decompress(content: bytes) -> bytes:
    """The content of one zstd frame that names its size; `ValueError` when it is damaged."""
    try:
        decompressed: bytes = zstandard.ZstdDecompressor().decompress(content)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    return decompressed


def decompress_into(
    room: memoryview, content: bytes, decompressor: zstandard.ZstdDecompressor
) -> None:
    """Fill `room` with the content of one zstd frame; `ValueError` when that is damaged, or of another size."""
    filled = 0
    try:
        with decompressor.stream_reader(content) as reader:
            while filled < len(room) and (count := reader.readinto(room[filled:])):
                filled += count
            filled += len(reader.read(1))  # none: by then the frame's checksum has been compared
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if filled != len(room):
        raise ValueError(f"a frame holds {filled} bytes, expected {len(room)}")


def decompress_frames(stored: Iterable[memoryview]) -> Iterator[bytes]:
    """The content of zstd frames, one after the other, in pieces; `ValueError` when one is damaged or cut off."""
    frame = None
    for piece in stored:
        while piece:
            fed = piece[:_FED_BYTES]
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                content = frame.decompress(fed)
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from None
            if frame.eof:
                fed, frame = fed[: len(fed) - len(frame.unused_data)], None
            piece = piece[len(fed) :]
            if content:
                yield content
    if frame is not None:
        raise ValueError("it is cut off")
