"""Types of flows and sagas in Python, with the keys and values that their YAML files have.

Written from the models by ``make docs``; what a key means, and its default, is what YAML's is.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, Required, TypeAlias, TypedDict


class On(TypedDict, total=False):
    """Events that a flow wants: of a topic, and those of them that are as it says."""

    topic: Required[str]
    """A topic with a contract."""
    match: Mapping[str, Any] | None
    """A pattern over the whole event, as Amazon EventBridge has them."""
    where: str | None
    """An expression in CEL that must be true, where a pattern is not enough."""


class JoinInput(TypedDict, total=False):
    topic: Required[str]
    """A topic with a contract."""
    match: Mapping[str, Any] | None
    """A pattern over the whole event, as Amazon EventBridge has them."""
    where: str | None
    """An expression in CEL that must be true, where a pattern is not enough."""
    key: str | None
    """What belongs together has the same of it: record, an attribute, or a JSON pointer into the
    data; default: the event's own key.
    """
    key_match: str | None
    """What of the key counts: the first group of a regular expression, or all that it matches."""
    key_days: int | None
    """The key begins with a date: this many days are added, the rest is left out."""
    member: str | None
    """Of a set: which member the event is of. Of a count: events with the same of it count once."""
    member_match: str | None
    """What of the member counts, as of the key."""


Manifest = TypedDict(
    "Manifest",
    {
        # A topic with a contract.
        "topic": Required[str],
        # A pattern over the whole event, as Amazon EventBridge has them.
        "match": Mapping[str, Any] | None,
        # An expression in CEL that must be true, where a pattern is not enough.
        "where": str | None,
        # What belongs together has the same of it: record, an attribute, or a JSON pointer into the
        # data; default: the event's own key.
        "key": str | None,
        # What of the key counts: the first group of a regular expression, or all that it matches.
        "key_match": str | None,
        # The key begins with a date: this many days are added, the rest is left out.
        "key_days": int | None,
        # Of a set: which member the event is of. Of a count: events with the same of it count once.
        "member": str | None,
        # What of the member counts, as of the key.
        "member_match": str | None,
        # Where it says how many events there are, or lists the members: a JSON pointer, or an
        # attribute.
        "from": Required[str],
    },
    total=False,
)


class Absence(TypedDict, total=False):
    after: Required[Mapping[str, JoinInput]]
    """What is followed, or not."""
    without: Required[Mapping[str, JoinInput]]
    """What must not follow it in time."""


class Sliding(TypedDict, total=False):
    size: Required[str | timedelta]
    """How long a window is."""
    every: Required[str | timedelta]
    """How far apart windows begin; size is a multiple of it, at most 10000 times."""


class WaitBounds(TypedDict, total=False):
    waits: int
    """Waits that are open in one task."""
    events: int
    """Events of one wait."""
    bytes: str
    """Bytes of the events of one wait."""


class When(TypedDict, total=False):
    """What a flow waits for; one of the kinds, and what holds for all of them."""

    all: Mapping[str, JoinInput] | None
    """An event of each input."""
    any: Mapping[str, JoinInput] | None
    """An event of any input."""
    some: Mapping[str, JoinInput] | None
    """Events of n of the inputs."""
    n: int | None
    """Of some: how many."""
    count: Mapping[str, JoinInput] | None
    """A number of events."""
    expect: int | str | None
    """Of a count: how many, or where each event says it; or a manifest says it."""
    gather: str | None
    """A flow that splits: the ends of all commands of one event."""
    failed: Literal["partial", "failure", "wait"]
    """Of gather: with commands that have failed, a result that says so, an event among the
    outcomes, or none before they were sent again and have succeeded.
    """
    set: Mapping[str, JoinInput] | None
    """An event of each member of a list."""
    members: Sequence[str] | None
    """Of a set: which; or a manifest lists them."""
    manifest: Manifest | None
    """The event that says how many there are, or which."""
    sequence: Mapping[str, JoinInput] | None
    """An event of each input, in this order."""
    absence: Absence | None
    """An event that none follows in time."""
    window: Mapping[str, JoinInput] | None
    """All events of a window."""
    tumbling: str | timedelta | None
    """Windows that follow each other."""
    sliding: Sliding | None
    """Windows that overlap."""
    session: str | timedelta | None
    """Windows that end with so long a pause."""
    aggregate: Mapping[str, Literal["count"] | Mapping[str, str]]
    """Of a window: what is made of its events."""
    collect: bool
    """Of a window: whether the result has its events."""
    within: str | timedelta | None
    """From the first event to the deadline; of a session, its greatest length."""
    grace: str | timedelta
    """How long after a deadline events from before it are waited for."""
    clock: Literal["arrival", "event"]
    """arrival: times of records, as Kafka has them; event: times of events."""
    on_timeout: Literal["partial", "fallback", "failure", "dead-letter", "drop"] | None
    """At the deadline: a result of what is there, one of the fallback's type, an event among the
    outcomes, dead letters, or nothing; failure, of a sequence drop.
    """
    fire: Literal["once", "each"] | None
    """once a key, or each time that it is complete; each for sequence, absence and window, else
    once.
    """
    late: Literal["new-run", "append", "drop", "dead-letter"] | None
    """What comes after the end: opens the next wait, makes a result of its own, is counted, or a
    dead letter; with fire: each new-run, else and of a window drop.
    """
    keep: Literal["first", "last"]
    """Which event of an input or member stays."""
    opens: Sequence[str] | None
    """Inputs that open a wait; default: each does."""
    look_back: str | timedelta
    """What does not open a wait counts if it came at most so long before."""
    fallback: JoinInput | None
    """An event that fires whatever there is, unless its key has fired."""
    remember: str | timedelta
    """How long a key that is over is known."""
    history: bool
    """Each change of a wait is an event on edo.waits.<flow>; edo waits show --history reads
    them.
    """
    max: WaitBounds
    """How much may wait; what is more is a dead letter."""
    group: str
    """Flows of a group share tasks and an internal topic."""
    partitions: int | None
    """Of the group; the largest that a flow asks for, else 8."""


class Debounce(TypedDict, total=False):
    """One command for the events of a key, once none of them has come for a while."""

    quiet: Required[str | timedelta]
    """For so long no event of the key has come."""
    max: Required[str | timedelta]
    """From the first event to the command at most, however many still come."""
    group: str
    """Flows of a group share tasks and an internal topic, also with those that have when."""
    partitions: int | None
    """Of the group; the largest that a flow asks for, else 8."""


class Batch(TypedDict, total=False):
    """One command for a list of events of a key, which ends at the first bound that it reaches."""

    count: Required[int]
    """Events of a command, at most."""
    bytes: str
    """Of them, as the command has them; an event that is larger goes alone."""
    after: Required[str | timedelta]
    """From the first event to the command, at most."""
    group: str
    """Flows of a group share tasks and an internal topic, also with those that have when."""
    partitions: int | None
    """Of the group; the largest that a flow asks for, else 8."""


class Input(TypedDict, total=False):
    """What a command's data is made of; one of the three."""

    jq: str | None
    """A program of jq over the whole event."""
    cel: str | None
    """An expression in CEL over it."""
    template: str | None
    """A template in Jinja that gives a JSON document."""


class LookupRules(TypedDict, total=False):
    """A row that is looked up for each event."""

    topic: Required[str]
    """A compacted topic with a contract, which no worker reads for itself."""
    key: str | None
    """The row's key in the event: record, an attribute, or a JSON pointer into the data;
    default: the event's own key.
    """
    missing: Literal["wait", "null", "dead-letter", "failure"]
    """When there is no row: wait for it, go on with null, give the event up, or tell it among
    the outcomes.
    """
    within: str | timedelta | None
    """Of wait: how long."""
    then: Literal["null", "dead-letter", "failure"]
    """Of wait: what comes after it."""
    max_per_key: int
    """Events of one key that may wait; more are dead letters."""
    table: Literal["partitioned", "global"]
    """Where its rows are: with the task that has their partition, to which events are brought;
    or, all of them, with every worker.
    """


class SplitRules(TypedDict, total=False):
    """Where the list is of which each element is a command; one of the first three."""

    at: str | None
    """A JSON pointer into the data."""
    jq: str | None
    """A program of jq that gives the list."""
    cel: str | None
    """An expression in CEL that does."""
    key: str | None
    """The key, as a pointer into the element; default: the event's, by key."""
    max: int
    """Elements; an event with more is a dead letter."""
    empty: Literal["event", "nothing"]
    """What comes of an empty list: an event among the outcomes, or nothing."""


class ExceptionMeaning(TypedDict, total=False):
    exceptions: Required[Sequence[str | type[BaseException]]]
    """Classes by name, with or without their module; subclasses are meant too."""
    means: Required[Literal["transient", "throttled", "poison", "business"]]
    """What they mean."""


class PythonAction(TypedDict, total=False):
    idempotency_key: Required[Literal["command"]]
    """By what the receiver can tell a repetition: the command's id, the same for every attempt
    and run.
    """
    replay: Required[Literal["safe", "sandbox-only", "forbidden"]]
    """Whether a replay of old events may run it."""
    timeout: str | timedelta
    """Of one run."""
    kind: Required[Literal["python"]]
    """"""
    handler: Required[str | Callable[..., Any]]
    """The function."""
    rules: Sequence[ExceptionMeaning]
    """What exceptions mean."""


class Basic(TypedDict, total=False):
    user: Required[str]
    """User name."""
    password: Required[str]
    """Reference to it."""


class Auth(TypedDict, total=False):
    bearer: str | None
    """Reference to a token."""
    basic: Basic | None
    """User and password."""
    header: Mapping[str, str]
    """Headers whose values are secrets."""


class CodeMeaning(TypedDict, total=False):
    codes: Required[Sequence[int | str]]
    """Codes, or ranges such as 500-599."""
    means: Required[Literal["success", "transient", "throttled", "poison", "business"]]
    """What they mean."""


class HttpAction(TypedDict, total=False):
    idempotency_key: Required[Literal["command"]]
    """By what the receiver can tell a repetition: the command's id, the same for every attempt
    and run.
    """
    replay: Required[Literal["safe", "sandbox-only", "forbidden"]]
    """Whether a replay of old events may run it."""
    timeout: str | timedelta
    """Of one run."""
    kind: Required[Literal["http"]]
    """"""
    url: Required[str]
    """A template."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    """HTTP's method."""
    headers: Mapping[str, str]
    """Templates."""
    body: str | None
    """A template; default: the event's data."""
    auth: Auth | None
    """Credentials, by reference."""
    rules: Sequence[CodeMeaning]
    """What status codes mean."""


class ProgramAction(TypedDict, total=False):
    idempotency_key: Required[Literal["command"]]
    """By what the receiver can tell a repetition: the command's id, the same for every attempt
    and run.
    """
    replay: Required[Literal["safe", "sandbox-only", "forbidden"]]
    """Whether a replay of old events may run it."""
    timeout: str | timedelta
    """Of one run."""
    kind: Required[Literal["program"]]
    """"""
    arguments: Required[Sequence[str]]
    """Templates; never a shell."""
    environment: Sequence[str]
    """Variables of the worker that the program may see."""
    directory: str | None
    """Where it runs."""
    rules: Sequence[CodeMeaning]
    """What exit codes mean."""


class RecordAction(TypedDict, total=False):
    idempotency_key: Required[Literal["command"]]
    """By what the receiver can tell a repetition: the command's id, the same for every attempt
    and run.
    """
    replay: Required[Literal["safe", "sandbox-only", "forbidden"]]
    """Whether a replay of old events may run it."""
    timeout: str | timedelta
    """Of one run."""
    kind: Required[Literal["record"]]
    """"""
    topic: Required[str]
    """Where to write."""
    type: str | None
    """Its type; default: the topic's name."""
    key: str | None
    """A template; default: the command's key."""
    value: str | None
    """A template; default: the event's data."""
    headers: Mapping[str, str]
    """Templates."""
    partitions: int | None
    """Of the topic, if no contract says it."""


class StateMeaning(TypedDict, total=False):
    states: Required[Sequence[str]]
    """SQLSTATEs, or the two letters of a class of them."""
    means: Required[Literal["transient", "throttled", "poison", "business"]]
    """What they mean."""


class SqlAction(TypedDict, total=False):
    idempotency_key: Required[Literal["command"]]
    """By what the receiver can tell a repetition: the command's id, the same for every attempt
    and run.
    """
    replay: Required[Literal["safe", "sandbox-only", "forbidden"]]
    """Whether a replay of old events may run it."""
    timeout: str | timedelta
    """Of one run."""
    kind: Required[Literal["sql"]]
    """"""
    connection: Required[str]
    """Reference to a connection string."""
    statement: Required[str]
    """SQL, with %(name)s for parameters."""
    parameters: Mapping[str, str]
    """JSON pointers into the data, by the parameter's name."""
    inbox: str
    """Table that tells what has run."""
    inbox_kept: str | timedelta
    """How long it tells; longer than a command may come."""
    rules: Sequence[StateMeaning]
    """What SQLSTATEs mean."""


class AirflowAction(TypedDict, total=False):
    idempotency_key: Required[Literal["command"]]
    """By what the receiver can tell a repetition: the command's id, the same for every attempt
    and run.
    """
    replay: Required[Literal["safe", "sandbox-only", "forbidden"]]
    """Whether a replay of old events may run it."""
    timeout: str | timedelta
    """Of one run."""
    kind: Required[Literal["airflow"]]
    """"""
    url: Required[str]
    """Of the API server."""
    dag: Required[str]
    """The DAG's id."""
    conf: str | None
    """Template of a JSON object."""
    user: str | None
    """For a token."""
    password: str | None
    """Reference to its password."""
    token: str | None
    """Reference to a token."""
    wait: bool
    """Whether to wait for the run's end."""


class DaprAction(TypedDict, total=False):
    idempotency_key: Required[Literal["command"]]
    """By what the receiver can tell a repetition: the command's id, the same for every attempt
    and run.
    """
    replay: Required[Literal["safe", "sandbox-only", "forbidden"]]
    """Whether a replay of old events may run it."""
    timeout: str | timedelta
    """Of one run."""
    kind: Required[Literal["dapr"]]
    """"""
    invoke: str | None
    """<app id>/<method>, to call a service; a template."""
    publish: str | None
    """<pubsub>/<topic>, to publish; a template."""
    sidecar: str
    """Dapr's HTTP endpoint."""
    token: str | None
    """Reference to Dapr's API token."""


class NoopAction(TypedDict, total=False):
    idempotency_key: Required[Literal["command"]]
    """By what the receiver can tell a repetition: the command's id, the same for every attempt
    and run.
    """
    replay: Required[Literal["safe", "sandbox-only", "forbidden"]]
    """Whether a replay of old events may run it."""
    timeout: str | timedelta
    """Of one run."""
    kind: Required[Literal["noop"]]
    """"""


Action: TypeAlias = (
    PythonAction
    | HttpAction
    | ProgramAction
    | RecordAction
    | SqlAction
    | AirflowAction
    | DaprAction
    | NoopAction
)


class Retry(TypedDict, total=False):
    initial: str | timedelta
    """Wait before the first retry."""
    factor: float
    """Each further wait is so many times as long."""
    max: str | timedelta
    """No wait is longer."""
    retries: int
    """How often it is tried again after the first attempt."""
    jitter: float
    """Share of a wait that may be added to it."""
    total: str | timedelta | None
    """After so long nothing is tried again."""


class Concurrency(TypedDict, total=False):
    max: Required[int]
    """Runs at once on one worker, at most."""
    adaptive: bool
    """Whether their number follows what the receiver can bear, by how long runs take and whether
    it pushes back.
    """


class Rate(TypedDict, total=False):
    per_second: Required[float]
    """Calls a second, on average."""
    burst: int
    """Calls at once."""


class ThrottleRules(TypedDict, total=False):
    limit: Required[int]
    """Commands of a key that may begin within the time, on average."""
    per: Required[str | timedelta]
    """The time."""
    burst: int
    """Commands that may begin at once."""


class KeyLimitRules(TypedDict, total=False):
    limit: Required[int]
    """Commands of a key that run, of those made within the time."""
    per: Required[str | timedelta]
    """The time."""


class CancelBy(TypedDict, total=False):
    """A field that what cancels and what is cancelled have in common, wherever each has it."""

    cancelling: str | None
    """Where the event that cancels has it: record, an attribute, or a JSON pointer into the
    data; default: the event's own key.
    """
    cancelled: Required[str]
    """Where the flow's own events have it, in the same words."""


class CancelOn(TypedDict, total=False):
    """Events that cancel commands of their key, or of another field."""

    topic: Required[str]
    """A topic with a contract."""
    match: Mapping[str, Any] | None
    """A pattern over the whole event, as Amazon EventBridge has them."""
    where: str | None
    """An expression in CEL that must be true, where a pattern is not enough."""
    by: str | CancelBy | None
    """Another field than the key that says which commands an event cancels."""


class BreakerRules(TypedDict, total=False):
    failure_ratio: float
    """Share of failures among the last calls at which it opens."""
    window: int
    """How many calls are looked at."""
    consecutive: int
    """Failures in a row at which it opens."""
    open: str | timedelta
    """How long it stays open at first."""
    open_max: str | timedelta
    """And at most."""
    probes: int
    """Successful probes that close it."""


class FlowLetters(TypedDict, total=False):
    owner: str | None
    """Who looks; default: the flow's owner."""
    acknowledge_within: str | timedelta
    """How soon."""
    after: Literal["continue", "stop"]
    """stop: nothing more of the key runs until an operator lets it go on."""


class Flow(TypedDict, total=False):
    """One flow."""

    name: Required[str]
    """Also the file's name."""
    owner: Required[str]
    """Who is asked about it."""
    description: Required[str]
    """What it does."""
    on: str | On | Sequence[str | On]
    """A topic with a contract, {topic, match, where}, or a list of them: each event of it that
    goes on, and is as one of them says, is a command.
    """
    when: When | None
    """Instead of on: events that are waited for, until all that is needed is there."""
    debounce: Debounce | None
    """One command for the events of a key, of the last of them, once it is quiet."""
    batch: Batch | None
    """One command for a list of events of a key."""
    key: str | None
    """What is kept in order; default: the event's own key."""
    input: Input | None
    """What a command's data is made of; default: the event's data."""
    lookup: Mapping[str, LookupRules] | None
    """Rows that input may use, as lookup.<name>."""
    lookup_waiting: int
    """Events of the flow that may wait for rows in one task."""
    split: str | SplitRules | None
    """The list of which each element is a command; default: the event is one."""
    action: Required[Action]
    """The side effect."""
    fallback: Action | None
    """What runs instead while the breaker is open."""
    group: str
    """Flows of a group share partitions and retry topics."""
    partitions: int | None
    """Of the group; the largest that a flow asks for, else 8."""
    order: Literal["strict", "relaxed"]
    """strict: later commands of a key wait for a failing one; relaxed: they go on."""
    delivery: Literal["at-least-once", "at-most-once"]
    """What a crash while it runs leads to."""
    retry: Retry
    """How often, and how late."""
    former_waits: Sequence[str | timedelta]
    """Waits of an earlier ladder whose topics are still read."""
    draining: bool
    """Whether events trigger it no more, while what they have triggered still runs."""
    concurrency: int | Concurrency
    """Runs at once on one worker."""
    target: str | None
    """Name of what is called, where flows share its rate and its breaker; default: the flow's
    own name.
    """
    rate: Rate | None
    """How fast the target may be called, by the whole fleet."""
    rate_per_key: Rate | None
    """How fast commands of one key may run; other keys go on."""
    singleton: Literal["skip", "queue", "replace"] | None
    """What becomes of a command while another one of its key runs, or waits to: skip: it is not
    run; queue: it waits, and whoever waited is not run; replace: the other one is cancelled.
    """
    throttle: ThrottleRules | None
    """How many commands of a key may begin within a time; others wait."""
    rate_limit: KeyLimitRules | None
    """How many commands of a key run, of those made within a time; others do not."""
    cancel_on: str | CancelOn | Sequence[str | CancelOn]
    """Events, as in on, that cancel what has not ended of the commands of their key that came
    before.
    """
    breaker: BreakerRules
    """When to leave a broken target alone."""
    parked_per_key: int
    """Commands of a key that may wait; then the partition pauses."""
    dead_letters: FlowLetters
    """Where commands go that are given up."""
    replies: str | None
    """Requests may ask for the end of their command on the topic edo.replies.<name>, which flows
    may share.
    """
    letters_max: int
    """Dead letters without successes at which the flow stops."""


class Emit(TypedDict, total=False):
    topic: Required[str]
    """A topic with a contract, of CloudEvents."""
    type: str | None
    """Their type; default: the topic's name."""


class ResultFlow(TypedDict, total=False):
    """A flow that ends in an event: it waits, and runs nothing."""

    name: Required[str]
    """Also the file's name."""
    owner: Required[str]
    """Who is asked about it."""
    description: Required[str]
    """What it does."""
    when: Required[When]
    """What it waits for."""
    emit: Required[Emit]
    """Where results go."""
    replies: str | None
    """Requests among the events may ask for the result on the topic edo.replies.<name>, which
    flows may share.
    """


class Deed(TypedDict, total=False):
    """A side effect of a step, or of what undoes it: as a flow declares it."""

    action: Required[Action]
    """The side effect."""
    retry: Retry
    """How often, and how late."""
    delivery: Literal["at-least-once", "at-most-once"]
    """What a crash while it runs leads to."""
    concurrency: int | Concurrency
    """Runs at once on one worker."""
    rate: Rate | None
    """How fast it may be called."""
    target: str | None
    """Name of what is called, where it is shared with flows."""


class Step(TypedDict, total=False):
    """One step."""

    name: Required[str]
    """Its name within the saga."""
    after: Sequence[str] | None
    """Steps that must be done before; default: the one above. Steps after the same ones run side
    by side.
    """
    manual: str | None
    """Who does it, when it is no action but a person's."""
    action: Action | None
    """The side effect."""
    retry: Retry
    """How often, and how late."""
    delivery: Literal["at-least-once", "at-most-once"]
    """What a crash while it runs leads to."""
    concurrency: int | Concurrency
    """Runs at once on one worker."""
    rate: Rate | None
    """How fast it may be called."""
    target: str | None
    """Name of what is called, where it is shared with flows."""
    timeout: str | timedelta | None
    """From the command to its reply, retries included."""
    compensate: Deed | None
    """What undoes it."""
    pivot: bool
    """Once it is done there is no way back; at most one step."""


class Saga(TypedDict, total=False):
    """One version of one saga."""

    name: Required[str]
    """Also the file's name."""
    version: Required[int]
    """Raised when steps change; a version that instances run keeps its file, as
    <name>.v<version>.yaml.
    """
    owner: Required[str]
    """Who is asked about it."""
    description: Required[str]
    """What it does."""
    on: Required[str | On | Sequence[str | On]]
    """Events that start it, as a flow's: a topic, {topic, match, where}, or a list."""
    key: str | None
    """What tells instances apart; default: the event's own key."""
    group: str
    """Sagas of a group share their tasks and partitions."""
    partitions: int | None
    """Of the group; the largest that a saga asks for, else 8."""
    deadline: str | timedelta | None
    """From start to end; beyond it, what is done is undone."""
    keep: str | timedelta
    """How long an instance that has ended is remembered."""
    repeat: Literal["ignore", "after-end"]
    """Another event for a key that is remembered: ignored, or, once its instance has ended, the
    start of another one.
    """
    replies: str | None
    """Requests that start it may ask for its end on the topic edo.replies.<name>, which flows
    may share.
    """
    steps: Required[Sequence[Step]]
    """What is done, in order."""
