"""Dead letters of events for which a flow looked something up: sent again, it looks anew.

Such a letter has the event's data, and in a header all that is known of it besides. It goes where
its first lookup is today, as the task of its own topic wrote it there, and looks up all of them.
"""

from base64 import b64decode

from msgspec.structs import replace

from edo_stream.cli.environment import CommandError
from edo_stream.cli.operate import NOT_DONE
from edo_stream.core.effects import Publish
from edo_stream.core.event import Violation
from edo_stream.core.lookup.path import Path, decode_seeker
from edo_stream.core.task import TaskIdentity
from edo_stream.flows import Flows
from edo_stream.observe.dead_letters import Letter


def sought_again(letter: Letter, flows: Flows, app: str, now_ms: int) -> list[Publish] | None:
    """The records by which an event comes to its flow again; ``None``: another kind of letter.

    Raises:
        CommandError: it cannot be sent again.
    """
    if not letter.sought:
        return None
    name = letter.flow or ""
    groups = flows.lookup_groups.values()
    enrichment = next((one.enrichments[name] for one in groups if name in one.enrichments), None)
    if enrichment is None:
        raise CommandError(
            f"{letter.id} cannot be sent again: no flow {name} looks anything up", NOT_DONE
        )
    seeker = decode_seeker(b64decode(letter.sought))
    if isinstance(seeker, Violation) or letter.is_reference:
        raise CommandError(f"{letter.id} cannot be sent again: its event is not in it", NOT_DONE)
    seeker = replace(seeker, data=letter.value)
    identity = TaskIdentity(app, "", seeker.partition)
    path = Path(identity, seeker.topic, seeker.partition, enrichment)
    seen = (seeker.record(), seeker.event())
    written = path.onward(0, seen, {}, now_ms, redrive=letter.redrive + 1)
    for one in written:
        if one.topic == enrichment.trigger.dead_letters:
            detail = dict(one.headers)["edo-detail"] or b""
            raise CommandError(f"{letter.id} cannot be sent again: {detail.decode()}", NOT_DONE)
    return list(written)
