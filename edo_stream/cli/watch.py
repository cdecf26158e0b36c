"""`edo watch`: a folder as a source, for development: each file that lands becomes an event."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

import msgspec
import typer
from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownTopicOrPartitionError

from edo_stream.cli.environment import CommandError, unreachable
from edo_stream.core.partitioner import partition_of
from edo_stream.engine.clock import now_ms
from edo_stream.engine.security import AccessError, BrokerAccess, broker_access
from edo_stream.registry.quantity import duration_ms
from edo_stream.settings import SettingsError, read_settings
from edo_stream.sources.objects_folder import Folder, Stamp, is_finished, record_of

_USAGE: Final = 2
_FILES_MAX: Final = 100_000
_LOOKS_A_SETTLE: Final = 4
_LOOK_MIN_S: Final = 0.05

_STATE: Final = msgspec.json.Decoder(dict[str, Stamp])


def watch(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder, with all that is below it.")
    ],
    topic: Annotated[str, typer.Option(help="Topic that the events go to.")],
    settle: Annotated[
        str, typer.Option(help="A file counts once it has not changed for so long.")
    ] = "2s",
    once: Annotated[
        bool, typer.Option("--once", help="End when all that is there is told.")
    ] = False,
) -> None:
    """Write an event for each file that lands in a folder, once for each of its versions.

    What was told is remembered under EDO_DATA; after a crash an event may be written again, under
    the same id.
    """
    try:
        settle_ms = duration_ms(settle)
        settings = read_settings()
        access = broker_access(settings)
    except (ValueError, SettingsError, AccessError) as error:
        raise CommandError(str(error), _USAGE) from error
    if not folder.is_dir():
        raise CommandError(f"{folder} is not a folder", _USAGE)
    root = folder.resolve()
    state = settings.data / f"watch-{sha256(f'{root}>{topic}'.encode()).hexdigest()[:16]}.json"
    watcher = _Watcher(root, topic, state, settle_ms)
    with unreachable(settings.broker):
        asyncio.run(watcher.run(access, is_once=once))


class _Watcher:
    """Looks at the folder, writes events, remembers."""

    def __init__(self, root: Path, topic: str, state: Path, settle_ms: int) -> None:
        self._root = root
        self._topic = topic
        self._state = state
        self._pause_s = max(_LOOK_MIN_S, settle_ms / 1000 / _LOOKS_A_SETTLE)
        self._folder = Folder(_remembered(state), settle_ms)
        self._source = f"file://{quote(str(root))}"

    async def run(self, access: BrokerAccess, is_once: bool) -> None:
        """Look again and again."""
        producer = AIOKafkaProducer(**access.client(enable_idempotence=True, acks="all"))
        await producer.start()
        try:
            partitions = await self._partitions(producer)
            while True:
                files = await asyncio.to_thread(self._scan)
                complete = self._folder.look(files, now_ms())
                for path, stamp in complete:
                    key, value, headers = record_of(self._source, self._root.name, path, stamp)
                    await producer.send_and_wait(
                        self._topic,
                        value,
                        key,
                        partition_of(key, partitions),
                        headers=list(headers),
                    )
                    self._folder.told[path] = stamp
                    print(path, flush=True)
                if complete:
                    _remember(self._state, self._folder.told)
                if is_once and self._folder.is_settled:
                    return
                await asyncio.sleep(self._pause_s)
        finally:
            await producer.stop()

    async def _partitions(self, producer: AIOKafkaProducer) -> int:
        try:
            return len(await producer.partitions_for(self._topic))
        except UnknownTopicOrPartitionError:
            raise CommandError(
                f"topic {self._topic} is not at the broker: write its contract, edo topics apply",
                _USAGE,
            ) from None

    def _scan(self) -> dict[str, Stamp]:
        found = {}
        for entry in _files(self._root):
            # Gone since it was listed: as if it had not been there.
            with suppress(FileNotFoundError):
                status = entry.stat()
                found[_name(self._root, entry)] = Stamp(status.st_mtime_ns, status.st_size)
            if len(found) > _FILES_MAX:
                raise CommandError(
                    f"{self._root} has more than {_FILES_MAX:,} files: watch a folder below it", 1
                )
        return found


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if not is_finished(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file():
                yield entry


def _name(root: Path, entry: os.DirEntry[str]) -> str:
    """Path below the root, as text whatever its bytes."""
    relative = os.path.relpath(entry.path, root)
    return os.fsencode(relative).decode("utf-8", "backslashreplace").replace(os.sep, "/")


def _remembered(state: Path) -> Mapping[str, Stamp]:
    try:
        return _STATE.decode(state.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise CommandError(f"{state} cannot be read: {error}; remove it", 1) from error


def _remember(state: Path, told: Mapping[str, Stamp]) -> None:
    """Replace the file at once, so that a crash leaves the old or the new one."""
    state.parent.mkdir(parents=True, exist_ok=True)
    written = state.with_suffix(".tmp")
    with written.open("wb") as file:
        file.write(msgspec.json.encode(told))
        file.flush()
        os.fsync(file.fileno())
    written.replace(state)
