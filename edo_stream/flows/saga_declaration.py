"""What a ``flows/sagas/<name>.yaml`` may say: its keys, their values, their defaults."""

import re
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from edo_stream.core.contract import DAY_MS
from edo_stream.flows.actions import Action
from edo_stream.flows.declaration import Concurrency, FlowDeclaration, On, Rate, TargetName
from edo_stream.registry.declaration import Declared, Partitions, Retry
from edo_stream.registry.names import GroupName, Key, Text
from edo_stream.registry.quantity import Duration

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,49}")
_STEPS_MAX: Final = 40


def _own_name(value: object, info: ValidationInfo) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{value} is not a saga's name: write lower-case letters, digits and -")
    file = (info.context or {}).get("file", value)
    if value != file:
        raise ValueError(f"{value} is not the name of its file: write {file}, or rename the file")
    return value


def _step_name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{value} is not a step's name: write lower-case letters, digits and -")
    return value


SagaName = Annotated[str, BeforeValidator(_own_name)]
StepName = Annotated[str, BeforeValidator(_step_name)]
_ON: Final = FlowDeclaration.model_fields["on"]
_CONCURRENCY: Final = FlowDeclaration.model_fields["concurrency"]


class Deed(Declared):
    """A side effect of a step, or of what undoes it: as a flow declares it."""

    action: Action = Field(examples=["{kind: http, …}"], description="The side effect.")
    retry: Retry = Field(default=Retry(), description="How often, and how late.")
    delivery: Literal["at-least-once", "at-most-once"] = Field(
        default="at-least-once", description="What a crash while it runs leads to."
    )
    concurrency: Annotated[Concurrency, *_CONCURRENCY.metadata] = Field(
        default=Concurrency(max=16), description="Runs at once on one worker."
    )
    rate: Rate | None = Field(default=None, description="How fast it may be called.")
    target: Text | None = Field(
        default=None, description="Name of what is called, where it is shared with flows."
    )


class StepDeclaration(Declared):
    """One step."""

    name: StepName = Field(examples=["reserve"], description="Its name within the saga.")
    after: list[StepName] | None = Field(
        default=None,
        description="Steps that must be done before; default: the one above. Steps after the same "
        "ones run side by side.",
    )
    manual: Text | None = Field(
        default=None, description="Who does it, when it is no action but a person's."
    )
    action: Action | None = Field(default=None, description="The side effect.")
    retry: Retry = Field(default=Retry(), description="How often, and how late.")
    delivery: Literal["at-least-once", "at-most-once"] = Field(
        default="at-least-once", description="What a crash while it runs leads to."
    )
    concurrency: Annotated[Concurrency, *_CONCURRENCY.metadata] = Field(
        default=Concurrency(max=16), description="Runs at once on one worker."
    )
    rate: Rate | None = Field(default=None, description="How fast it may be called.")
    target: Text | None = Field(
        default=None, description="Name of what is called, where it is shared with flows."
    )
    timeout: Duration | None = Field(
        default=None, description="From the command to its reply, retries included."
    )
    compensate: Deed | None = Field(default=None, description="What undoes it.")
    pivot: bool = Field(
        default=False, description="Once it is done there is no way back; at most one step."
    )


class SagaDeclaration(Declared):
    """One version of one saga."""

    name: SagaName = Field(examples=["ship-order"], description="Also the file's name.")
    version: Annotated[int, Field(ge=1, le=999_999)] = Field(
        examples=[1],
        description="Raised when steps change; a version that instances run keeps its file, as "
        "<name>.v<version>.yaml.",
    )
    owner: Text = Field(examples=["team-orders"], description="Who is asked about it.")
    description: Text = Field(examples=["Ships a paid order."], description="What it does.")
    on: Annotated[list[On], *_ON.metadata] = Field(
        examples=["shop.order.placed"],
        description="Events that start it, as a flow's: a topic, {topic, match, where}, or a list.",
    )
    key: Key | None = Field(
        default=None,
        description="What tells instances apart; default: the event's own key.",
    )
    group: GroupName = Field(
        default="sagas", description="Sagas of a group share their tasks and partitions."
    )
    partitions: Partitions | None = Field(
        default=None, description="Of the group; the largest that a saga asks for, else 8."
    )
    deadline: Duration | None = Field(
        default=None, description="From start to end; beyond it, what is done is undone."
    )
    keep: Duration = Field(
        default=7 * DAY_MS, description="How long an instance that has ended is remembered."
    )
    repeat: Literal["ignore", "after-end"] = Field(
        default="ignore",
        description="Another event for a key that is remembered: ignored, or, once its instance "
        "has ended, the start of another one.",
    )
    replies: TargetName | None = Field(
        default=None,
        examples=["shop"],
        description="Requests that start it may ask for its end on the topic edo.replies.<name>, "
        "which flows may share.",
    )
    steps: Annotated[list[StepDeclaration], Field(min_length=1, max_length=_STEPS_MAX)] = Field(
        examples=["[{name: reserve, …}]"], description="What is done, in order."
    )
