"""The Faust application of the decide plane, put together from plans.

One agent per source topic hands batches to the task of their partition; everything that matters
happens in there (:mod:`edo_stream.engine.task`).
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import faust
import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.app.base import BootStrategy
from mode import Service

from edo_stream.core.lookup.spec import Decode
from edo_stream.core.native import WHY_PYTHON
from edo_stream.core.state import FORMAT
from edo_stream.engine import clock
from edo_stream.engine.admin import PreparationError, Wanted, prepare
from edo_stream.engine.assignment import Assignment, GroupPlan
from edo_stream.engine.assignor import TaskAssignor
from edo_stream.engine.changelog import BrokerChangelog, BrokerFollower, BrokerTableFollower
from edo_stream.engine.compression import Compression
from edo_stream.engine.disks import remove_abandoned
from edo_stream.engine.frames import receive_in_place
from edo_stream.engine.global_tables import GlobalTables
from edo_stream.engine.hooks import Hooks
from edo_stream.engine.leftovers import leftovers
from edo_stream.engine.pace import Pace
from edo_stream.engine.ports import Disk
from edo_stream.engine.process import (
    GC_EVERY_S,
    UnusableError,
    claim_directory_of_a_leaver,
    collect_cycles,
    prepare_process,
    require_port,
    unwritable,
)
from edo_stream.engine.producer import producer_factory
from edo_stream.engine.security import BrokerAccess, reason_of
from edo_stream.engine.store import DiskMemory, RocksDisk
from edo_stream.engine.tables import TaskFaustTable, TaskTableManager
from edo_stream.engine.target import Targets
from edo_stream.engine.task_spec import Ports
from edo_stream.engine.transaction_v2.choice import TransactionProtocol, choose_protocol
from edo_stream.engine.transport import TaskConsumer, TaskTransport

log = logging.getLogger(__name__)

#: sysexits.h: the process ends for a reason that a restart may or may not mend.
_EX_TEMPFAIL = 75
_EX_CONFIG = 78
#: Of one partition. An answer is copied several times on its way, for all partitions at once: with
#: 4 MiB each a burst took twice the memory (docs/bounds.md).
_FETCH_BYTES = 1 << 20
#: A worker that stops ends its transactions and closes its disks in less.
_LEAVER_S = 10.0


class WorkerSettings(msgspec.Struct, frozen=True):
    """What the worker's Faust application needs to know besides the plans."""

    app_id: str
    access: BrokerAccess
    data_dir: Path
    transaction_timeout_ms: int
    session_timeout_s: float
    heartbeat_interval_s: float
    rebalance_timeout_s: float
    batch_records_max: int
    transactions_per_s: int = 300
    instance_id: str | None = None
    standbys: int = 0
    """Copies of each task's state on other workers; the leader's number counts."""
    compression: Compression = Compression()
    transaction_protocol: str = "auto"
    """The newest that the brokers have agreed upon, or ``1``."""
    web_bind: str = "127.0.0.1"
    web_port: int = 6066
    web_url: str | None = None
    """Where others reach it; ``None``: at the address that it listens on."""
    logging_config: Mapping[str, Any] | None = None
    """As of ``logging.config.dictConfig``, merged into Faust's own."""


class Preparation(Service):
    """First service to start: checks the topics, then puts the tasks' side together."""

    def __init__(self, app: "EdoApp", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._app = app

    async def on_start(self) -> None:
        app, settings = self._app, self._app.worker_settings
        prepare_process(tasks_max=sum(plan.partitions for plan in app.plans.values()))
        if not settings.access.is_encrypted:
            receive_in_place()
        try:
            self._lock = await claim_directory_of_a_leaver(Path(app.conf.datadir), _LEAVER_S)
            if app.conf.web_enabled:
                require_port(str(app.conf.web_bind), app.conf.web_port)
            limits = await prepare(settings.access, app.wanted)
            await _refuse_leftovers(app)
            protocol = await choose_protocol(settings.access, settings.transaction_protocol)
        except UnusableError as error:
            _leave(_EX_CONFIG, str(error))
        except PreparationError as error:
            _leave(_EX_CONFIG, *error.findings)
        except KafkaError as error:
            _leave(
                _EX_TEMPFAIL,
                f"no broker at {settings.access.bootstrap}: {reason_of(error)}",
            )
        if WHY_PYTHON:
            log.warning(
                "without the compiled half, and slower: %s (install again, with a C compiler)",
                WHY_PYTHON,
            )
        remove_abandoned(Path(app.conf.tabledir), clock.now_ms())
        _plug_in(app, limits, protocol)

    @Service.task
    async def _collect(self) -> None:
        while not self.should_stop:
            await self.sleep(GC_EVERY_S)
            collect_cycles()


async def _refuse_leftovers(app: "EdoApp") -> None:
    settings, declared = app.worker_settings, {topic.name for topic in app.wanted}
    found = await leftovers(settings.access, settings.app_id, declared)
    if found:
        raise PreparationError([f"{one.found}: {one.advice}" for one in found])


def _leave(status: int, *lines: str) -> NoReturn:
    """End the process at once, with a message instead of a traceback."""
    for line in lines:
        log.critical(line)
    logging.shutdown()
    # Crash-only: nothing is open that a restart would not find in order.
    os._exit(status)


class _Boot(BootStrategy):
    #: Tasks have producers of their own; Faust's would only idle.
    enable_kafka_producer = False

    def server(self) -> Iterable[Any]:
        app: Any = self.app
        return self._chain([app.preparation], super().server())


class EdoApp(faust.App):
    """Faust application whose partitions are run by tasks."""

    BootStrategy = _Boot

    worker_settings: WorkerSettings
    plans: Mapping[str, GroupPlan]
    wanted: Sequence[Wanted]
    preparation: Preparation
    hooks: Hooks
    targets: Targets
    global_tables: Mapping[str, Decode]
    """How to read the tables that flows look up in, and that each worker has in full."""
    assignment: Assignment

    def _create_directories(self) -> None:
        # Faust does it before anything of ours has begun, and makes no parents.
        directory = Path(self.conf.datadir)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            super()._create_directories()
        except OSError as error:
            _leave(_EX_CONFIG, str(unwritable(directory, error)))


def make_app(  # noqa: PLR0913 - a composition of parts, made in one place
    settings: WorkerSettings,
    plans: Mapping[str, GroupPlan],
    wanted: Sequence[Wanted],
    hooks: Hooks,
    targets: Targets | None = None,
    global_tables: Mapping[str, Decode] | None = None,
) -> EdoApp:
    """Build the application that ``faust -A … worker`` runs."""
    app = EdoApp(
        settings.app_id,
        broker=f"aiokafka://{settings.access.bootstrap}",
        store="memory://",
        datadir=str(settings.data_dir),
        PartitionAssignor=TaskAssignor,
        TableManager=TaskTableManager,
        Table=TaskFaustTable,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.heartbeat_interval_s,
        broker_rebalance_timeout=settings.rebalance_timeout_s,
        broker_request_timeout=max(30.0, settings.session_timeout_s),
        broker_max_poll_records=settings.batch_records_max,
        consumer_max_fetch_size=_FETCH_BYTES,
        consumer_auto_offset_reset="none",
        consumer_group_instance_id=settings.instance_id,
        stream_processing_timeout=3_600,
        stream_wait_empty=False,
        web_bind=settings.web_bind,
        web_port=settings.web_port,
        web_host=settings.web_bind,
        canonical_url=settings.web_url,
        logging_config=settings.logging_config,
    )
    app.worker_settings = settings
    app.plans = plans
    app.wanted = wanted
    app.hooks = hooks
    app.targets = targets or {}
    app.global_tables = global_tables or {}
    app.transport = TaskTransport(app.conf.broker_consumer, app)
    app.preparation = Preparation(app, loop=app.loop, beacon=app.beacon)
    _add_tables(app, plans)
    _add_agents(app, plans)
    return app


def _add_tables(app: EdoApp, plans: Mapping[str, GroupPlan]) -> None:
    for plan in plans.values():
        for table in plan.tables:
            app.Table(
                table.name,
                partitions=plan.partitions,
                changelog_topic=app.topic(table.changelog, partitions=plan.partitions),
                help=f"state of the tasks of group {plan.spec.group}",
            )


def _add_agents(app: EdoApp, plans: Mapping[str, GroupPlan]) -> None:
    for plan in plans.values():
        for topic in plan.spec.sources:
            source = app.topic(
                topic,
                key_type=bytes,
                value_type=bytes,
                key_serializer="raw",
                value_serializer="raw",
                # Faust neither tracks nor commits these: the transactions of the tasks do.
                acks=False,
            )
            app.agent(source, name=f"decide.{topic}")(_hand_over(app))


def _hand_over(app: EdoApp) -> Any:
    async def decide(stream: Any) -> None:
        """Hand each batch to the task that owns its partition."""
        async for batch in stream:
            app.assignment.offer(batch)

    return decide


def _plug_in(
    app: EdoApp, batch_bytes_max: Mapping[str, int], protocol: TransactionProtocol
) -> None:
    settings, consumer, tables = app.worker_settings, app.consumer, app.tables
    assert isinstance(consumer, TaskConsumer)
    assert isinstance(tables, TaskTableManager)
    changelog, open_disk = BrokerChangelog(settings.access), _open_disk(app)

    def on_given_up(why: str) -> None:
        _leave(_EX_TEMPFAIL, why)

    ports = Ports(
        producers=producer_factory(
            settings.access, settings.transaction_timeout_ms, settings.compression, protocol
        ),
        changelog=changelog,
        intake=consumer,
        membership=consumer,
        now_ms=clock.now_ms,
        pace=Pace(settings.transactions_per_s),
        batch_bytes_max=batch_bytes_max,
        hooks=app.hooks,
        targets=app.targets,
        global_tables=GlobalTables(
            app.global_tables,
            changelog,
            BrokerTableFollower(settings.access),
            open_disk,
            clock.now_ms,
            on_given_up,
        ),
    )
    app.assignment = tables.assignment = Assignment(
        app.plans,
        ports,
        BrokerFollower(settings.access),
        open_disk,
        on_given_up,
    )

    def on_out_of_range(partition: TopicPartition) -> None:
        task = app.assignment.task_of(partition)
        if task is not None:
            task.reposition()

    consumer.on_out_of_range = on_out_of_range
    consumer.on_lost = lambda why: _leave(_EX_TEMPFAIL, why)


def _open_disk(app: EdoApp) -> Any:
    memory = DiskMemory()

    def open_disk(table: str, partition: int, format_: int = FORMAT, oldest: int = FORMAT) -> Disk:
        path = Path(app.conf.tabledir) / f"{table}-{partition}"
        try:
            return RocksDisk(path, memory, format_, oldest)
        except UnusableError as error:
            _leave(_EX_CONFIG, str(error))
        except Exception as error:
            if "LOCK:" in str(error):
                _leave(
                    _EX_CONFIG,
                    f"{path} is in use by another process: give each worker a data directory "
                    "of its own (EDO_DATA)",
                )
            raise

    return open_disk
