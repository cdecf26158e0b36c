"""What a flow's action does, in a few words: for people, and without a secret."""

from urllib.parse import urlsplit

from edo_stream.flows.actions import Action


def target_of(action: Action) -> str:
    """Kind and target of an action; of a URL only the place, never what it may carry."""
    match action.kind:
        case "python":
            target = f"python {action.handler}"
        case "http":
            target = f"{action.method} {_place(action.url)}"
        case "program":
            target = f"program {action.arguments[0]}"
        case "record":
            target = f"record on {action.topic}"
        case "sql":
            target = f"sql in {action.connection}"
        case "airflow":
            target = f"DAG {action.dag} at {_place(action.url)}"
        case "dapr":
            target = f"dapr {action.invoke or action.publish}"
        case kind:
            target = str(kind)
    return target


def guard_of(action: Action) -> str:
    """What makes a repeated run of it harmless, if anything does."""
    match action.kind:
        case "record":
            return "the record is written in the transaction of its outcome: exactly once"
        case "sql":
            return f"a row of {action.inbox} in the transaction of the statement: exactly once"
        case "http" | "dapr":
            return "`Idempotency-Key`, the command's id: once where the receiver honours it"
        case "airflow":
            return "the run's id derives from the command: once"
        case "noop":
            return "nothing happens"
        case _:
            return "the command's id, where the receiver honours it"


def _place(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
