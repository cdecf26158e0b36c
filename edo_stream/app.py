"""The decide plane as a Faust application: ``faust -A edo_stream.app worker``.

The composition root: settings from the environment, contracts from their folder, and the engine
put together from both. Whatever is wrong with either is said, all of it, before anything starts.
"""

import os
import sys
from collections.abc import Callable, Mapping
from socket import gethostname
from typing import Any

import msgspec

from edo_stream.actions.build import targets_of
from edo_stream.actions.outside import Outside
from edo_stream.core.effects import Effects
from edo_stream.engine.act_plans import act_plans, act_topics
from edo_stream.engine.clock import now_ms
from edo_stream.engine.compression import Compression
from edo_stream.engine.fleet_link import join_fleet
from edo_stream.engine.hooks import Hooks
from edo_stream.engine.joins import join_plans, join_topics
from edo_stream.engine.look import look
from edo_stream.engine.lookups import lookup_plans, lookup_topics, table_decoders
from edo_stream.engine.pages import add_pages
from edo_stream.engine.plans import group_plans, wanted_topics
from edo_stream.engine.saga_plans import saga_plans, saga_topics
from edo_stream.engine.security import AccessError, broker_access
from edo_stream.engine.task_spec import TaskSpec
from edo_stream.engine.ticks import ticker_plans, ticker_topics
from edo_stream.engine.worker import EdoApp, WorkerSettings, make_app
from edo_stream.flows import load_flows
from edo_stream.flows.in_python import import_from
from edo_stream.flows.targets import target_policies
from edo_stream.observe.health import health_page, ready_page, status_page
from edo_stream.observe.lateness import Lateness
from edo_stream.observe.letters import log_dead_letters
from edo_stream.observe.letters_watch import Waiting, follow_letters
from edo_stream.observe.log_format import logging_config
from edo_stream.observe.metrics import Metrics, MetricsPage
from edo_stream.observe.owners import Owners, owners_of
from edo_stream.registry import RegistryError, load
from edo_stream.schedules.folder import load_schedules
from edo_stream.schema_ids import schema_ids
from edo_stream.schemas.enforcement import Tally
from edo_stream.settings import Settings, SettingsError, read_settings
from edo_stream.states import serve_states, state_places
from edo_stream.views import Page, WorkerView


def build(settings: Settings) -> EdoApp:
    """Make the application.

    Raises:
        RegistryError: the contracts have mistakes.
        AccessError: the credentials cannot be used.
    """
    registry = load(settings.topics)
    spec = TaskSpec(
        app=settings.app_id,
        group="",
        sources={},
        transaction_timeout_s=settings.transaction_timeout_ms / 1000,
        session_timeout_s=settings.session_timeout_ms / 1000,
        batch_records_max=settings.batch_records_max,
        accepted_losses=settings.accepted_losses,
    )
    worker = WorkerSettings(
        app_id=settings.app_id,
        access=broker_access(settings),
        data_dir=settings.data,
        transaction_timeout_ms=settings.transaction_timeout_ms,
        session_timeout_s=settings.session_timeout_ms / 1000,
        heartbeat_interval_s=settings.heartbeat_interval_ms / 1000,
        rebalance_timeout_s=settings.rebalance_timeout_ms / 1000,
        batch_records_max=settings.batch_records_max,
        transactions_per_s=settings.transactions_per_second_max,
        instance_id=settings.instance,
        standbys=settings.standbys,
        compression=Compression(settings.compression, settings.compression_internal),
        transaction_protocol=settings.transaction_protocol,
        web_bind=settings.web_bind,
        web_port=settings.web_port,
        web_url=settings.advertised_url,
        logging_config=logging_config(settings.log_format),
    )
    tally = Tally()
    wanted = wanted_topics(registry, settings.app_id, settings.replication)
    schedules = load_schedules(settings.schedules_folder, registry.entries)
    if schedules:
        wanted += ticker_topics(settings.app_id, settings.replication)
    flows = load_flows(settings.flows_folder, registry)
    ids = schema_ids(settings, registry.entries.values())
    plans = group_plans(registry, spec, tally, flows, ids)
    plans |= ticker_plans(schedules.values(), registry.entries, spec)
    for topics in (act_topics, join_topics, lookup_topics, saga_topics):
        wanted += topics(flows, settings.app_id, settings.replication)
    name = _name_of_worker(settings)
    plans |= act_plans(flows, spec, name) | join_plans(flows, spec)
    plans |= saga_plans(flows, spec) | lookup_plans(flows, registry, spec, tally, ids)
    import_from(settings.flows_folder.parent)
    outside = Outside(now_ms)
    fleet, link = join_fleet(worker.access, settings.app_id, name, target_policies(flows))
    targets = targets_of(flows, registry, outside, fleet)
    metrics = Metrics(tally)
    letters = {contract.dead_letters for contract in registry.contracts.values()}

    def committed(group: str, effects: Effects, seconds: float, at_ms: int) -> None:
        metrics.committed(group, effects, seconds, at_ms)
        log_dead_letters(group, effects, letters)

    lateness = Lateness()

    def retried(group: str, flow: str, late_ms: int) -> None:
        metrics.retried(group, flow, late_ms)
        lateness.retried(flow, late_ms)

    hooks = Hooks(
        committed, metrics.failed, metrics.restored, metrics.rewound, metrics.stood_by, retried
    )
    tables = table_decoders(flows, registry, ids)
    app = make_app(worker, plans, wanted, hooks, targets, tables)
    waiting = _watch_letters(app, owners_of(registry, flows))
    _show(app, metrics, waiting, lateness)
    serve_states(app, state_places(flows, registry, settings.state_data))

    @app.on_before_shutdown.connect
    async def close_connections(*_: Any, **__: Any) -> None:
        await outside.close()
        fleet.close()
        await link.close()

    return app


def _name_of_worker(settings: Settings) -> str:
    """In the whole fleet, and of this life of the process alone."""
    return f"{settings.instance or gethostname()}/{os.getpid()}/{now_ms()}"


def _watch_letters(app: EdoApp, owners: Owners) -> Waiting:
    """Count dead letters, on the worker that runs the first of all tasks."""
    waiting = Waiting(owners)
    first = (min(app.plans), 0) if app.plans else None

    def is_wanted() -> bool:
        return first is not None and first in app.assignment.tasks

    async def follow() -> None:
        await follow_letters(waiting, app.worker_settings.access.client(), is_wanted)

    app.task(follow)
    return waiting


def _show(app: EdoApp, metrics: Metrics, waiting: Waiting, lateness: Lateness) -> None:
    """Serve what can be seen of the worker on its port."""

    def seen() -> WorkerView:
        at_ms = now_ms()
        worker = look(app, at_ms)
        letters, retries = waiting.views(at_ms), lateness.views()
        return msgspec.structs.replace(worker, letters=letters, retries=retries)

    pages: Mapping[str, Callable[[], Page]] = {
        "/metrics": MetricsPage(metrics, seen, now_ms),
        "/healthz": health_page(seen),
        "/readyz": ready_page(seen),
        "/status": status_page(seen),
    }
    add_pages(app, pages)


try:
    app = build(read_settings())
except (SettingsError, RegistryError, AccessError) as error:
    sys.exit(f"edo_stream cannot start:\n{error}")
