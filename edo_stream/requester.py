"""Ask for the end of what an event leads to: ``from edo_stream import Requester``.

.. code-block:: python

    async with Requester("/shop/checkout", "shop") as requester:
        reply = await requester.request("shop.label.wanted", "o-7", {"id": "o-7"}, timeout=5.0)
        print(reply.result())

A request is an event of a declared topic, sent by a :class:`~edo_stream.producer.Producer`, with
headers that say where and until when its reply is waited for (:mod:`edo_stream.core.act.reply`). A
flow of the topic that has ``replies: shop`` answers on ``edo.replies.shop``, in the transaction of
the command's end. A requester reads one partition of that topic from its end on, in no group: as
many as there are may share it. What is for others, or comes too late, is counted.

The events of one correlation id may hold several requests, so a reply is for a request only when
both the correlation and the request that it names are.
"""

import asyncio
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from edo_stream.core.asked import REQUEST
from edo_stream.core.headers import time_text
from edo_stream.core.record import Headers
from edo_stream.engine.admin import Admin
from edo_stream.engine.clock import now_ms
from edo_stream.engine.security import broker_access
from edo_stream.flows.replying import REPLY_PARTITIONS, replies_topic
from edo_stream.outgoing import Envelope, NotProducedError, random_id
from edo_stream.producer import Producer, Sent
from edo_stream.registry import Registry, load
from edo_stream.settings import Settings, read_settings

__all__ = ["NoReplyError", "Reply", "RequestFailedError", "Requester"]

_DONE: Final = "done"
_PENDING_MAX: Final = 10_000
_REMEMBERED_MAX: Final = 10_000
"""Requests that got no reply in time; a reply of one before them counts as another's."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How the command of a request has ended."""

    flow: str
    end: str
    """``done``, ``failed``, ``unknown``, ``dead-letter`` or ``dropped``."""
    data: bytes | None
    """Of ``done`` the result; else JSON with class, reason and detail."""
    content_type: str | None
    request: str
    """Id of the request's event."""
    correlation_id: str
    command: str
    """Id of the command."""

    @property
    def is_done(self) -> bool:
        """Whether it ran and succeeded."""
        return self.end == _DONE

    def json(self) -> Any:
        """The data, where they are JSON; ``None`` without any."""
        return None if self.data is None else msgspec.json.decode(self.data)

    def result(self) -> Any:
        """The result of what is done.

        Raises:
            RequestFailedError: it is not done.
        """
        if not self.is_done:
            raise RequestFailedError(self)
        return self.json()


class RequestFailedError(Exception):
    """The command of a request has ended, and not by a success."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        told = reply.json() or {}
        why = ": ".join(str(told[name]) for name in ("reason", "detail") if told.get(name))
        super().__init__(f"flow {reply.flow}: {reply.end}: {why}")


class NoReplyError(TimeoutError):
    """No reply came in time: what was asked for may have happened, or may still happen.

    Only a command of the request alone, of a flow with ``replies``, does not begin any more.
    """

    def __init__(self, message: str, sent: Sent | None) -> None:
        super().__init__(message)
        self.sent = sent
        """Where the request is; ``None``: it may be written or not."""


@dataclass(slots=True)
class Heard:
    """Replies that were read, by what they were."""

    resolved: int = 0
    late: int = 0
    """Of requests that nobody waits for any more, or that have had theirs."""
    others: int = 0
    """Of other requesters, and records that are no replies."""


@dataclass(slots=True)
class _Waiting:
    correlation_id: str
    reply: asyncio.Future[Reply]


@dataclass(slots=True)
class Book:
    """Requests that wait for their replies."""

    heard: Heard = field(default_factory=Heard)
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    _over: dict[str, None] = field(default_factory=dict)
    _broken: BaseException | None = None

    def open(self, request: str, correlation_id: str) -> asyncio.Future[Reply]:
        """Wait for a reply from now on; :meth:`close` it in any case.

        Raises:
            ValueError: a request of this id waits already, or too many wait.
        """
        if self._broken is not None:
            raise self._broken
        if request in self._waiting:
            raise ValueError(f"a request of id {request} waits for its reply already")
        if len(self._waiting) >= _PENDING_MAX:
            raise ValueError(f"{_PENDING_MAX:,} requests wait for their replies already")
        self._over.pop(request, None)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request] = _Waiting(correlation_id, reply)
        return reply

    def close(self, request: str) -> None:
        """Nobody waits any more."""
        waiting = self._waiting.pop(request)
        waiting.reply.cancel()
        if not waiting.reply.cancelled():
            waiting.reply.exception()  # Whoever it was for may be gone.
        self._over[request] = None
        if len(self._over) > _REMEMBERED_MAX:
            del self._over[next(iter(self._over))]

    def hear(self, headers: Headers, data: bytes | None) -> None:
        """Take a record of the topic of replies."""
        reply = read_reply(headers, data)
        waiting = None if reply is None else self._waiting.get(reply.request)
        if reply is None:
            self.heard.others += 1
        elif waiting is None or waiting.correlation_id != reply.correlation_id:
            is_late = waiting is None and reply.request in self._over
            self.heard.late += is_late
            self.heard.others += not is_late
        elif waiting.reply.done():
            # Two flows have replied, or the waiting is over in this very moment.
            self.heard.late += 1
        else:
            self.heard.resolved += 1
            waiting.reply.set_result(reply)

    def fail(self, error: BaseException) -> None:
        """No reply can be read any more."""
        self._broken = error
        for waiting in self._waiting.values():
            if not waiting.reply.done():
                waiting.reply.set_exception(error)


def read_reply(headers: Headers, data: bytes | None) -> Reply | None:
    """Read a reply; ``None`` for a record that is none."""
    try:
        told = {name: (value or b"").decode() for name, value in headers}
    except UnicodeDecodeError:
        return None
    _, _, end = told.get("ce_type", "").rpartition(".")
    flow, request = told.get("edo-flow", ""), told.get(REQUEST, "")
    if not (end and flow and request):
        return None
    return Reply(
        flow=flow,
        end=end,
        data=data,
        content_type=told.get("content-type"),
        request=request,
        correlation_id=told.get("ce_correlationid", ""),
        command=told.get("ce_causationid", ""),
    )


class Requester:
    """Sends requests and waits for their replies; an async context manager."""

    def __init__(
        self,
        source: str,
        replies: str,
        *,
        settings: Settings | None = None,
        registry: Registry | None = None,
        schema_ids: Mapping[str, Mapping[int, int]] | None = None,
    ) -> None:
        """Read settings and contracts; ``replies`` is what flows have by this name.

        Raises:
            SettingsError: the environment has mistakes.
            RegistryError: the contracts have mistakes.
        """
        known = settings or read_settings()
        self._producer = Producer(
            source,
            settings=known,
            registry=registry or load(known.topics),
            schema_ids=schema_ids,
        )
        self._access = broker_access(known)
        self._topic = replies_topic(replies)
        self._partition = random.randrange(REPLY_PARTITIONS)  # noqa: S311 - any will do
        self._book = Book()
        self._stack = AsyncExitStack()

    @property
    def heard(self) -> Heard:
        """Replies that were read."""
        return self._book.heard

    async def __aenter__(self) -> Self:
        # What has begun ends in reverse order, also when what comes after does not begin.
        async with AsyncExitStack() as stack:
            await self._require_topic()
            consumer = await self._listen(stack)
            await stack.enter_async_context(self._producer)
            reading = asyncio.create_task(self._read(consumer), name=f"replies {self._topic}")
            stack.push_async_callback(_end, reading)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._book.fail(RuntimeError("the requester is closed"))
        await self._stack.aclose()

    async def request(
        self,
        topic: str,
        key: str | bytes | None,
        data: Any,
        *,
        timeout: float = 10.0,  # noqa: ASYNC109 - the workers are told of it as well
        **envelope: Any,
    ) -> Reply:
        """Send a request, and wait for its reply.

        ``envelope`` is what an event may say besides: the fields of
        :class:`~edo_stream.outgoing.Envelope`. The same ``id`` again is the same request.

        Raises:
            NoReplyError: none came in time.
            ContractError: the event breaks its contract; nothing was sent.
            NotProducedError: there is no such topic, or it is not ours to write.
            KafkaError: the broker failed; the request may be written or not.
        """
        told = Envelope(**{**envelope, "key": key})
        identity = told.id or random_id()
        correlation_id = told.correlation_id or identity
        until = time_text(now_ms() + int(timeout * 1000))
        assert until is not None, "a time-out ends before the year 10000"
        extensions = {
            **told.extensions,
            "edoreplyto": f"{self._topic}/{self._partition}",
            "expirytime": until.decode(),
        }
        record = self._producer.prepare(
            topic,
            data,
            replace(told, id=identity, correlation_id=correlation_id, extensions=extensions),
        )
        # Before it is sent: the reply may be faster than the broker's word that it is written.
        reply = self._book.open(identity, correlation_id)
        sent: Sent | None = None
        try:
            async with asyncio.timeout(timeout):
                [sent] = await self._producer.deliver(record)
                return await reply
        except TimeoutError:
            if reply.done() and not reply.cancelled():
                return reply.result()  # It came in the very moment.
            raise NoReplyError(_silence(topic, timeout, sent), sent) from None
        finally:
            self._book.close(identity)

    async def _require_topic(self) -> None:
        """Nobody would ever reply on a topic that is not there."""
        async with Admin(self._access) as admin:
            found = (await admin.present([self._topic])).get(self._topic)
        if found is None:
            raise NotProducedError(
                f"{self._topic} is not there: a flow has to say replies: "
                f"{self._topic.rpartition('.')[2]}, and edo topics apply creates it"
            )
        if found.partitions != REPLY_PARTITIONS:
            raise NotProducedError(
                f"{self._topic} has {found.partitions} partitions, not {REPLY_PARTITIONS}: delete "
                "it, and create it with edo topics apply"
            )

    async def _listen(self, stack: AsyncExitStack) -> Any:
        """A consumer at the end of the partition."""
        consumer = AIOKafkaConsumer(
            **self._access.client(
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
            )
        )
        # Also of one that has not started.
        stack.push_async_callback(consumer.stop)
        await consumer.start()
        place = TopicPartition(self._topic, self._partition)
        end = (await consumer.end_offsets([place]))[place]
        consumer.assign([place])
        consumer.seek(place, end)
        return consumer

    async def _read(self, consumer: Any) -> None:
        try:
            while True:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    for record in records:
                        self._book.hear(record.headers, record.value)
        except Exception as error:  # noqa: BLE001 - whoever waits is told, and nobody waits in vain
            self._book.fail(error)


async def _end(reading: asyncio.Task[None]) -> None:
    reading.cancel()
    await asyncio.wait([reading])


def _silence(topic: str, timeout_s: float, sent: Sent | None) -> str:
    if sent is None:
        return f"no reply within {timeout_s:g} s: the request to {topic} may be written or not"
    place = f"{sent.topic}-{sent.partition}, offset {sent.offset}"
    return (
        f"no reply within {timeout_s:g} s: the request is at {place}. A command of it alone does "
        "not begin any more. What runs goes on, and so does what waits for other events, is split, "
        "or is a saga: its end will be an event of its flow"
    )
