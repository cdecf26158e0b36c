"""Records as they are fetched, made into what their reader needs and nothing else.

aiokafka makes a record of eleven fields of each, half of them for nobody here: that took as long
as all the rest of reading. What turns the bytes of a batch into fields is its own, and stays.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords

from edo_stream.core.record import PlainRecord
from edo_stream.engine.ports import ChangelogRecord

for owner, name in (
    (Fetcher, "_proc_fetch_request"),
    (PartitionRecords, "_consumer_record"),
    (PartitionRecords, "_unpack_records"),
):
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone: pin the versions we know"


class PlainRecords(PartitionRecords):  # type: ignore[misc]
    """What a fetch has brought of a source's partition."""

    def __iter__(self) -> Iterator[Any]:
        records: Iterator[Any] = self._records_iterator
        return records

    def _consumer_record(self, partition: TopicPartition, record: Any) -> PlainRecord:
        return PlainRecord(
            partition.topic,
            partition.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            record.headers,
        )


class ChangelogRecords(PlainRecords):
    """What a fetch has brought of a changelog's partition."""

    def _consumer_record(self, partition: TopicPartition, record: Any) -> Any:
        return ChangelogRecord(record.offset, record.key, record.value)


def read_as(kind: type[PlainRecords], fetcher: Any) -> None:
    """Have a started client's fetcher give out records of a kind."""
    process = fetcher._proc_fetch_request

    async def process_so(*args: Any) -> Any:
        needs_wakeup = await process(*args)
        # Before anybody is woken for it. What was there already is of the kind already.
        for result in fetcher._records.values():
            records = getattr(result, "_partition_records", None)
            if type(records) is PartitionRecords:
                records.__class__ = kind
        return needs_wakeup

    fetcher._proc_fetch_request = process_so
