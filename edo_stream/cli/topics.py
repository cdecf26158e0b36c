"""`edo contracts`, `edo topics`: the catalog of events, in files and at the broker.

One group of verbs under two names.
"""

import typer

from edo_stream.cli import (
    contracts_cluster,
    contracts_data,
    contracts_diff,
    contracts_export,
    contracts_lint,
    contracts_live,
    contracts_new,
    contracts_show,
)

app = typer.Typer(no_args_is_help=True)
app.command("apply")(contracts_cluster.apply)
app.command("diff")(contracts_diff.diff)
app.command("drift")(contracts_cluster.drift)
app.command("export")(contracts_export.export)
app.command("init")(contracts_new.init)
app.command("lint")(contracts_lint.lint)
app.command("new")(contracts_new.new)
app.command("owners")(contracts_show.owners)
app.command("plan")(contracts_cluster.plan)
app.command("schema")(contracts_show.schema)
app.command("show")(contracts_show.show)
app.command("test")(contracts_live.judge_live)
app.command("validate")(contracts_data.validate)


@app.callback()
def topics() -> None:
    """Contracts of topics: reviewed as files, applied at the broker."""
