"""The command `edo`: one sub-command per module of this package.

Exit codes: 0 done, 1 findings or failure, 2 wrong usage, 3 something is unreachable.
"""

import os
import sys

import typer

from edo_stream.cli import (
    audit,
    blocked,
    blueprint,
    breaker,
    compatible,
    dlq,
    doctor,
    events,
    flow,
    gap,
    gateway,
    lag,
    local,
    pattern,
    publish,
    query,
    register,
    replay,
    request,
    saga,
    schedule,
    source,
    status,
    topics,
    waits,
    watch,
    webhook,
)
from edo_stream.cli.contracts_new import init
from edo_stream.cli.environment import CommandError
from edo_stream.local.errors import LocalError

# Never a traceback: with locals it would show data.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(events.app, name="events")
events.app.command("request")(request.request)
app.add_typer(breaker.app, name="breaker")
app.add_typer(dlq.app, name="dlq")
app.add_typer(flow.app, name="flow")
app.add_typer(gap.app, name="gap")
app.add_typer(blocked.key, name="key")
app.add_typer(blocked.retry, name="retry")
app.add_typer(local.app, name="local")
app.add_typer(pattern.app, name="pattern")
app.add_typer(saga.app, name="saga")
app.add_typer(schedule.app, name="schedule")
app.add_typer(source.app, name="source")
app.add_typer(topics.app, name="topics")
# A contract is the topic's: both names lead to the same commands.
app.add_typer(topics.app, name="contracts")
topics.app.command("compatible")(compatible.compatible)
topics.app.command("publish")(publish.publish)
topics.app.command("register")(register.register)
app.add_typer(waits.app, name="waits")
app.add_typer(webhook.app, name="webhook")
app.command("init")(init)
app.command("audit")(audit.audit)
app.command("blueprint")(blueprint.blueprint)
app.command("doctor")(doctor.doctor)
app.command("gateway")(gateway.gateway)
app.command("lag")(lag.lag)
app.command("query")(query.query)
app.command("replay")(replay.replay)
app.command("status")(status.status)
app.command("watch")(watch.watch)

_INTERRUPTED = 130


@app.callback()
def edo() -> None:
    """Event-driven orchestration on Kafka."""


def main() -> None:
    """Run one command; what goes wrong becomes one line and an exit code."""
    try:
        app()
    except CommandError as error:
        _fail(str(error), error.code)
    except LocalError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output left (`| head`); nothing more may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("EDO_DEBUG"):
            raise
        _fail(f"{type(error).__name__}: {error} (EDO_DEBUG=1 shows where)", 1)


def _fail(text: str, code: int) -> None:
    print(f"edo: {text}", file=sys.stderr)
    sys.exit(code)
