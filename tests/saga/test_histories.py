"""Sagas under crashes, repeated and late replies and impatient operators, by seed."""

import random

import pytest

from edo_stream.core.saga.definition import SagaDefinition, SagaStep
from edo_stream.core.saga.instance import SagaStatus, StepStatus
from tests.saga.world import Command, World, definition, judge, spec, step

SEEDS = 400
KEYS = ("k0", "k1", "k2")
ENDS = ("done",) * 6 + ("failed", "unknown", "refused", "exhausted")


def drawn(rng: random.Random) -> SagaDefinition:
    """Some saga: a graph, perhaps with a pivot, a person, times."""
    names = [f"s{number}" for number in range(rng.randint(1, 5))]
    pivot = rng.choice([None, *range(len(names))])
    steps: list[SagaStep] = []
    for number, name in enumerate(names):
        before = names[:number]
        if pivot is not None and number == pivot:
            # Nothing runs beside a pivot.
            after = tuple(before)
        elif pivot is not None and number > pivot:
            after = (names[pivot], *(one for one in before[pivot + 1 :] if rng.random() < 0.5))
        else:
            after = tuple(one for one in before if rng.random() < 0.5)
        is_manual = number != pivot and rng.random() < 0.15
        steps.append(
            step(
                name,
                *after,
                undo=rng.random() < 0.8 and not is_manual,
                is_pivot=number == pivot,
                timeout_ms=rng.choice([None, 3_000, 9_000]),
                **({"flow": None} if is_manual else {}),
            )
        )
    deadline_ms = rng.choice([None, None, 20_000])
    return definition(*steps, deadline_ms=deadline_ms, is_repeatable=rng.random() < 0.3)


class History:
    """One history: the world, what befalls it, and what its commands have done outside."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(spec(drawn(self.rng)))
        self.ended: list[Command] = []
        self.asked: list[str] = []

    def run(self) -> None:
        rng = self.rng
        for number in range(60):
            self.world.now_ms += rng.choice([0, 1, 500, 4_000])
            match rng.randrange(9):
                case 0:
                    self.world.send(f"e{number}", rng.choice(KEYS))
                case 7:
                    self.asked.append(f"r-e{number}")
                    self.world.ask_for(f"e{number}", rng.choice(KEYS))
                case 1 | 2 | 3:
                    self.end_one()
                case 4:
                    self.say_again()
                case 5:
                    self.ask()
                case _:
                    pass
            self.step()

    def step(self) -> None:
        """A step, and what becomes of it."""
        world, rng = self.world, self.rng
        if rng.random() < 0.1:
            # What was processed is delivered once more.
            topic = rng.choice(list(world.reading))
            world.reading[topic] = rng.randint(0, world.reading[topic])
        batches = world.batches(rng.choice([1, 3, 50]))
        effects = world.step(batches)
        draw = rng.random()
        if draw < 0.2:
            world.abort()
            return
        world.commit(effects)
        if draw < 0.3:
            world.begin()
        elif draw < 0.35:
            world.restore()

    def end_one(self) -> None:
        if self.world.open:
            command = self.rng.choice(self.world.open)
            self.ended.append(command)
            self.apply(command, self.rng.choice(ENDS))

    def say_again(self) -> None:
        """A reply is repeated, or comes once more and says something else."""
        if self.ended:
            self.apply(self.rng.choice(self.ended), self.rng.choice(ENDS))

    def ask(self) -> None:
        verbs = ("retry", "compensate", "abandon", "complete", "reject", "retry")
        verb, key = self.rng.choice(verbs), self.rng.choice(KEYS)
        name = self.rng.choice(list(self.world.spec.newest.by_name))
        rest = {"step": name} if verb in ("complete", "reject") else {}
        if verb != "abandon" or self.rng.random() < 0.3:
            self.world.ask(f"saga.{verb}", key, **rest)

    def apply(self, command: Command, kind: str) -> None:
        self.world.end(command, kind, {"by": command.id})

    def rest(self) -> None:
        """Let all commands end well, and people answer, until nothing moves any more."""
        world = self.world
        for _ in range(200):
            world.settle()
            for command in list(world.open):
                self.world.end(command, "done")
            for name, one in world.spec.newest.by_name.items():
                if one.flow is None:
                    for key in KEYS:
                        world.ask("saga.complete", key, step=name)
            for key in KEYS:
                world.ask("saga.retry", key)
            for key, row in world.folded().items():
                if any("nothing undoes it" in state.error for state in row.steps.values()):
                    world.ask("saga.abandon", key)
            world.settle()
            if all(row.status.is_over for row in world.folded().values()):
                return
        raise AssertionError([row for row in world.folded().values() if not row.status.is_over])


@pytest.mark.parametrize("part", range(4))
def test_each_transition_happens_once_and_its_events_add_up_to_the_state(part: int) -> None:
    ends: set[SagaStatus] = set()
    kinds: set[str] = set()
    for seed in range(part, SEEDS, 4):
        history = History(seed)
        history.run()
        judge(history.world)
        history.rest()
        judge(history.world)
        _judge_rest(history.world)
        _judge_replies(history)
        ends |= {row.status for row in history.world.folded().values()}
        kinds |= set(history.world.kinds())
    assert {SagaStatus.COMPLETED, SagaStatus.COMPENSATED, SagaStatus.ABANDONED} == ends
    assert {"late-reply", "stuck", "resumed", "undo-failed", "step-overdue", "overdue"} <= kinds


def _judge_replies(history: History) -> None:
    """Each request is told once: of the first end of its instance, or that there was one."""
    world = history.world
    told = world.replies()
    assert sorted(history.asked) == sorted(request for request, _ in told)
    firsts: dict[str, str] = {}
    begun = {}
    for change in world.events():
        if change["change"] == "started":
            begun[change["instance"]] = change["event"]["order"]
        if change["change"] in ("completed", "compensated", "abandoned"):
            firsts.setdefault(f"r-{begun[change['instance']]}", change["change"])
    for request, end in told:
        is_done = firsts.get(request) == "completed"
        assert end == ("done" if is_done else firsts.get(request, "skipped"))


def _judge_rest(world: World) -> None:
    """Nothing is half done, unless it was abandoned."""
    for row in world.folded().values():
        states = {state.status for state in row.steps.values()}
        match row.status:
            case SagaStatus.COMPLETED:
                assert {StepStatus.DONE} == states
            case SagaStatus.COMPENSATED:
                assert states <= {StepStatus.WAITING, StepStatus.FAILED, StepStatus.UNDONE}
            case status:
                assert SagaStatus.ABANDONED is status


def test_the_same_inputs_lead_to_the_same_state_however_they_are_cut_and_interrupted() -> None:
    for seed in range(100):
        whole, cut = (World(spec(drawn(random.Random(seed)))) for _ in range(2))
        rng = random.Random(seed)
        for number in range(20):
            for world in (whole, cut):
                world.send(f"e{number}", KEYS[number % 3])
            whole.settle()
            while cut.reading["starts"] <= cut.logs["starts"][-1].offset:
                effects = cut.step(cut.batches(1))
                if rng.random() < 0.4:
                    cut.abort()
                else:
                    cut.commit(effects)
            cut.settle()
            assert [one.id for one in whole.open] == [one.id for one in cut.open]
            if whole.open:
                index, kind = rng.randrange(len(whole.open)), rng.choice(ENDS)
                for world in (whole, cut):
                    world.end(world.open[index], kind)
        whole.settle()
        cut.restore()
        cut.settle()
        assert whole.events() == cut.events()
