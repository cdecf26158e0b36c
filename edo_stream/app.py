"""The decide plane as a Faust application: ``faust -A edo_stream.app worker``.

The composition root: settings from the environment, contracts from their folder, and the engine
put together from both. Whatever is wrong with either is said, all of it, before anything starts.
"""

import sys

from edo_stream.engine.plans import group_plans, wanted_topics
from edo_stream.engine.security import AccessError, broker_access
from edo_stream.engine.task import TaskSpec
from edo_stream.engine.worker import EdoApp, WorkerSettings, make_app
from edo_stream.registry import RegistryError, load
from edo_stream.settings import Settings, SettingsError, read_settings


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
        compression=None
        if settings.changelog_compression == "none"
        else settings.changelog_compression,
        web_bind=settings.web_bind,
        web_port=settings.web_port,
    )
    wanted = wanted_topics(registry, settings.app_id, settings.replication)
    return make_app(worker, group_plans(registry, spec), wanted)


try:
    app = build(read_settings())
except (SettingsError, RegistryError, AccessError) as error:
    sys.exit(f"edo_stream cannot start:\n{error}")
