"""The topics as commands of Apache Kafka's own scripts."""

import shlex
from collections.abc import Iterable

from edo_stream.registry import TopicSpec


def kafka_cli(topics: Iterable[TopicSpec], broker: str) -> str:
    """Write a shell script that creates the topics that are missing, and changes nothing else."""
    lines = [
        "#!/bin/sh",
        "# Written from the contracts; creates what is missing.",
        "set -eu",
        f'BOOTSTRAP_SERVER="${{BOOTSTRAP_SERVER:-{broker}}}"',
    ]
    for topic in topics:
        arguments = [
            "--create",
            "--if-not-exists",
            "--topic",
            topic.name,
            "--partitions",
            str(topic.partitions),
            "--replication-factor",
            str(topic.replication),
        ]
        for name, value in sorted(topic.config.items()):
            arguments += ["--config", f"{name}={value}"]
        words = " ".join(shlex.quote(word) for word in arguments)
        lines.append(f'kafka-topics.sh --bootstrap-server "$BOOTSTRAP_SERVER" {words}')
    return "\n".join(lines) + "\n"
