"""Which parts of a chain's frames are wanted: often little of those between the newest backup and the full one."""

from bisect import bisect_right
from collections import defaultdict

from opskit.repository.content import Content
from opskit.repository.merge import Source

# From where to where in a frame's content.
Part = tuple[int, int]


class Wanted:
    """What is taken of the backups between the newest and the full one: of their frames, often little."""

    def __init__(self, content: Content) -> None:
        self._sources: defaultdict[tuple[int, int], list[Source]] = defaultdict(list)
        for file in content.files:
            for source in file.sources:
                if 0 < source.backup < len(content.chain) - 1:
                    self._sources[source.backup, source.volume].append(source)
        for sources in self._sources.values():
            sources.sort(key=_begin)

    def parts(self, backup: int, volume: int, start: int, stop: int) -> list[Part] | None:
        """What is wanted of a volume's tar from `start` to `stop`, counted from there; `None` if that is most of it."""
        sources = self._sources.get((backup, volume))
        if sources is None:
            return None
        parts: list[Part] = []
        for number in range(max(bisect_right(sources, start, key=_begin) - 1, 0), len(sources)):
            _, _, begin, size, runs = sources[number]
            if begin >= stop:
                break
            content, length = ((0,), (size,)) if runs is None else (runs.content, runs.length)
            for index in range(max(bisect_right(content, start - begin) - 1, 0), len(content)):
                first, last = begin + content[index], begin + content[index] + length[index]
                if first >= stop:
                    break
                if last > start:
                    parts.append((max(first, start) - start, min(last, stop) - start))
        is_little = 2 * sum(last - first for first, last in parts) <= stop - start
        return parts if is_little else None


def _begin(source: Source) -> int:
    return source.begin
