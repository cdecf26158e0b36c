"""A folder as a store of objects, for development: what has landed in it, and is complete.

Nothing tells that a program has finished writing a file. A file counts once its size and time of
change have stayed the same for a while; one that is put in place by a rename is complete at once
and counts after the same while. A file is known by path, time of change and size: what was told
once is not told again, and a file that is written anew is another creation.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from edo_stream.core.headers import JSON_CONTENT, SPECVERSION, Header, time_text
from edo_stream.sources.objects import TYPE, Created, name_in_id, shown

#: Names that programs give to what they have not finished.
_UNFINISHED: Final = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".swp", "~")
_NANOSECONDS: Final = 1_000_000

_encode: Final = msgspec.json.Encoder().encode


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """What a file is known by, besides its path."""

    changed_ns: int
    """Time of its last change."""
    size: int


class Folder:
    """Decides which files are complete and new; ``told`` are those of earlier runs."""

    def __init__(self, told: Mapping[str, Stamp], settle_ms: int) -> None:
        self.told = dict(told)
        self._settle_ms = settle_ms
        self._unchanged: dict[str, tuple[Stamp, int]] = {}

    def look(self, files: Mapping[str, Stamp], now_ms: int) -> list[tuple[str, Stamp]]:
        """Take in what is there now; gives what has become complete, the oldest first."""
        for path in [path for path in self.told if path not in files]:
            del self.told[path]
        self._unchanged = dict(self._since(files, now_ms))
        complete = [
            (path, stamp)
            for path, (stamp, since_ms) in self._unchanged.items()
            if now_ms - since_ms >= self._settle_ms and self.told.get(path) != stamp
        ]
        return sorted(complete, key=lambda one: (one[1].changed_ns, one[0]))

    def _since(
        self, files: Mapping[str, Stamp], now_ms: int
    ) -> Iterator[tuple[str, tuple[Stamp, int]]]:
        for path, stamp in files.items():
            before, since_ms = self._unchanged.get(path, (None, now_ms))
            yield path, (stamp, since_ms if before == stamp else now_ms)

    @property
    def is_settled(self) -> bool:
        """Whether all that was there at the last look has been told."""
        return all(self.told.get(path) == stamp for path, (stamp, _) in self._unchanged.items())


def is_finished(name: str) -> bool:
    """Whether a file's name is that of a finished one."""
    return not name.startswith(".") and not name.lower().endswith(_UNFINISHED)


def record_of(
    source: str, folder: str, path: str, stamp: Stamp
) -> tuple[bytes, bytes, Iterable[Header]]:
    """Key, value and headers of the event: a file was created."""
    name = f"{folder}/{path}"
    changed = (time_text(stamp.changed_ns // _NANOSECONDS) or b"").decode()
    created = Created(
        store="folder",
        bucket=folder,
        key=path,
        size=stamp.size,
        sequencer=str(stamp.changed_ns),
        time=changed,
        reason="settled",
    )
    headers = [
        SPECVERSION,
        ("ce_id", f"{name_in_id(name)}#{stamp.changed_ns}#{stamp.size}".encode()),
        ("ce_source", source.encode()),
        ("ce_type", TYPE.encode()),
        ("ce_subject", shown(name).encode()),
        ("ce_time", changed.encode()),
        ("ce_sequence", str(stamp.changed_ns).encode()),
        JSON_CONTENT,
    ]
    return name.encode(), _encode(created), headers
