"""What a flow wants, and whether all of it says something."""

from edo_stream.flows.declaration import On
from edo_stream.flows.rules.case import FlowCase


def find_wants_that_say_nothing(case: FlowCase) -> None:
    """Each entry of ``on`` adds events to those of the entries before it."""
    if case.declaration is None:
        return
    seen: list[On] = []
    everything = {on.topic for on in case.declaration.on if on.match is None and on.where is None}
    for number, on in enumerate(case.declaration.on):
        place = ("on", number)
        if on in seen:
            case.find(place, f"on.{number}: written twice: keep one of them")
        elif on.topic in everything and (on.match is not None or on.where is not None):
            case.find(
                place,
                f"on.{number}: says nothing: another entry wants every event of {on.topic}",
            )
        seen.append(on)
