"""The harms of a chaos run, each done to whatever is there and undone before the next."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

from edo_stream.local.errors import LocalError
from edo_stream.local.kafka import LocalKafka
from load.field import REBALANCE_TIMEOUT_S, SESSION_TIMEOUT_S, Field
from load.fleet import LocalWorker
from load.proxy.rules import Api

_FROZEN_S: Final = SESSION_TIMEOUT_S + 2.0
_START_S: Final = 90.0
_POLL_S: Final = 2.0
_FULL_S: Final = 6.0
_END_S: Final = 15.0
_FETCH_DELAY_S: Final = 3.5


class Harm(Enum):
    """What is done."""

    KILL = "kill -9"
    STOP = "SIGTERM"
    FREEZE = "SIGSTOP past the session timeout"
    ROLL = "rolling restart"
    ADD = "a worker more"
    REMOVE = "a worker less"
    WIPE = "data directory wiped"
    REBALANCE_IN_RESTORE = "rebalance during a restore"
    SLOW_RESTORE = "restore longer than the rebalance timeout"
    FULL_DISK = "full disk of a worker"
    BROKER_KILL = "broker kill -9"
    BROKER_STOP = "broker SIGTERM"
    BROKER_FREEZE = "broker SIGSTOP"
    BROKER_FULL_DISK = "full disk of a broker"
    LEADER_LOSS = "a node of three away for a while"
    QUORUM_LOSS = "two nodes of three killed: too few replicas"


#: One broker that is away is away for all; of three, two go on.
OF_WORKERS: Final = (
    Harm.KILL,
    Harm.STOP,
    Harm.FREEZE,
    Harm.ROLL,
    Harm.ADD,
    Harm.REMOVE,
    Harm.WIPE,
    Harm.REBALANCE_IN_RESTORE,
    Harm.FULL_DISK,
)
OF_BROKER: Final = (
    Harm.BROKER_KILL,
    Harm.BROKER_STOP,
    Harm.BROKER_FREEZE,
    Harm.BROKER_FULL_DISK,
)
OF_CLUSTER: Final = (*OF_BROKER, Harm.LEADER_LOSS, Harm.QUORUM_LOSS)


def possible(field: Field) -> list[Harm]:
    """Harms that can be done here."""
    harms = [*OF_WORKERS, *(OF_BROKER if len(field.brokers) == 1 else OF_CLUSTER)]
    if field.proxy is not None:
        harms.append(Harm.SLOW_RESTORE)
    # A disk that others use as well is not filled.
    if not all(_state_of(worker).is_mount() for worker in field.workers):
        harms.remove(Harm.FULL_DISK)
    if not all(broker.directory.is_mount() for broker in field.brokers):
        harms.remove(Harm.BROKER_FULL_DISK)
    return harms


def stops_cluster(harm: Harm, field: Field) -> bool:
    """Whether nothing at all can be written while a harm lasts."""
    return harm is Harm.QUORUM_LOSS or (harm in OF_BROKER and len(field.brokers) == 1)


def hurt(harm: Harm, field: Field, chance: random.Random) -> str:  # noqa: C901, PLR0912 - a table
    """Do it, and say to whom; blocks for as long as the harm lasts."""
    for worker in field.workers:
        if not worker.is_running:
            # It has left by itself, as it does when it lost its partitions; a supervisor's part.
            worker.launch()
    worker = chance.choice(field.workers)
    what = worker.directory.name
    match harm:
        case Harm.KILL:
            worker.kill()
            worker.launch()
        case Harm.STOP:
            worker.stop()
            worker.launch()
        case Harm.FREEZE:
            _freeze(worker)
        case Harm.ROLL:
            _roll(field.workers)
            what = "all workers"
        case Harm.ADD:
            what = _add(field).directory.name
        case Harm.REMOVE:
            what = _remove(field)
        case Harm.WIPE:
            _wipe(worker)
        case Harm.REBALANCE_IN_RESTORE:
            _wipe(worker)
            _rebalance_in_restore(worker, field)
        case Harm.SLOW_RESTORE:
            _slow_restore(worker, field)
        case Harm.FULL_DISK:
            _while_full(_state_of(worker), lambda: time.sleep(_FULL_S))
        case _:
            what = _hurt_brokers(harm, field, chance)
    return f"{harm.value} of {what}"


def _freeze(worker: LocalWorker) -> None:
    worker.freeze()
    time.sleep(_FROZEN_S)
    worker.thaw()
    # It learns that it was replaced, and comes back; or it has left by itself.
    time.sleep(_POLL_S)
    if not worker.is_running:
        worker.launch()


def _roll(workers: Sequence[LocalWorker]) -> None:
    for worker in workers:
        worker.stop()
        worker.launch()
        _wait_ready(worker)


def _add(field: Field) -> LocalWorker:
    worker = next((one for one in field.extra if not one.is_running), None) or field.recruit()
    worker.launch()
    _wait_ready(worker)
    return worker


def _remove(field: Field) -> str:
    running = [worker for worker in field.extra if worker.is_running]
    worker = running[0] if running else _add(field)
    worker.stop()
    return worker.directory.name


def _wipe(worker: LocalWorker) -> None:
    worker.kill()
    _empty(_state_of(worker))
    worker.launch()


def _empty(directory: Path) -> None:
    for one in directory.iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()


def _rebalance_in_restore(worker: LocalWorker, field: Field) -> None:
    """Have others come and go while the worker, its disk empty, takes its partitions over."""
    _wait_ready(worker)
    other = _add(field)
    other.kill()


def _slow_restore(worker: LocalWorker, field: Field) -> None:
    """Hold back what a restore reads, for longer than a rebalance may take."""
    assert field.proxy is not None
    slow = field.proxy.on(Api.FETCH, client_id="aiokafka").delay(_FETCH_DELAY_S)
    _wipe(worker)
    time.sleep(REBALANCE_TIMEOUT_S + 2)
    slow.off()


def _state_of(worker: LocalWorker) -> Path:
    return worker.directory / "state"


def _while_full(directory: Path, wait: Callable[[], None]) -> None:
    filler = directory / "filler"
    try:
        with filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
    except OSError:
        pass  # Full, as it is to be.
    wait()
    filler.unlink()


def _wait_ended(broker: LocalKafka) -> None:
    deadline_s = time.monotonic() + _END_S
    while broker.is_running and time.monotonic() < deadline_s:
        time.sleep(0.1)


def _hurt_brokers(harm: Harm, field: Field, chance: random.Random) -> str:
    broker = chance.choice(field.brokers)
    match harm:
        case Harm.BROKER_KILL:
            _away([broker], LocalKafka.kill, 0.0)
        case Harm.BROKER_STOP:
            _away([broker], LocalKafka.stop, 0.0)
        case Harm.BROKER_FREEZE:
            pid = broker.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            time.sleep(chance.uniform(1.0, 5.0))
            os.kill(pid, signal.SIGCONT)
        case Harm.BROKER_FULL_DISK:
            # Kafka ends by itself when its only log directory fails.
            _while_full(broker.directory, lambda: _wait_ended(broker))
            _away([broker], LocalKafka.kill, 0.0)
        case Harm.LEADER_LOSS:
            _away([broker], LocalKafka.kill, chance.uniform(5.0, 10.0))
        case _:
            two = chance.sample(field.brokers, 2)
            _away(two, LocalKafka.kill, 0.0)
            return " and ".join(one.directory.name for one in two)
    return broker.directory.name


def _away(brokers: Sequence[LocalKafka], leave: Callable[[LocalKafka], None], for_s: float) -> None:
    for broker in brokers:
        leave(broker)
    time.sleep(for_s)
    for broker in brokers:
        broker.launch()
    for broker in brokers:
        broker.wait_ready(_START_S)


def _wait_ready(worker: LocalWorker) -> None:
    try:
        worker.wait_ready(_START_S)
    except LocalError:
        # It may end while it starts, when the brokers are hurt as well; it is started again.
        worker.launch()
