"""Singletons, cancels and limits against models that say the same by brute force."""

from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest

from edo_stream.core.act.ladder import RetryPolicy
from edo_stream.core.act.outcome import Done
from edo_stream.core.act.policy import Singleton
from edo_stream.core.act.turns import KeyLimit
from edo_stream.core.act.work import Work
from tests.act.test_control import DONE, ends, world_of
from tests.act.world import STOPPED, TRANSIENT

_SEEDS = 60


@dataclass
class Model:
    """One key, as docs/flow-control.md says it."""

    singleton: Singleton | None
    head: str = ""
    state: str = ""
    """``ready``, ``running`` or ``retry``."""
    is_marked: bool = False
    waiting: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def send(self, command: str) -> None:
        if self.head and self.singleton is Singleton.SKIP:
            self.ends.append(f"{command} skipped")
            return
        if self.head and self.singleton is Singleton.QUEUE:
            self.ends += [f"{one} skipped" for one in self.waiting]
            self.waiting.clear()
        if self.head and self.singleton is Singleton.REPLACE:
            self.cancel()
        self.waiting.append(command)
        self.go_on()

    def cancel(self) -> None:
        self.ends += [f"{one} cancelled" for one in self.waiting]
        self.waiting.clear()
        if self.state == "running":
            self.is_marked = True
        elif self.head:
            self.end("cancelled")

    def finish(self, is_done: bool) -> None:
        if is_done:
            self.end("done")
        elif self.is_marked:
            self.end("cancelled")
        else:
            self.state = "retry"

    def crash(self) -> None:
        if self.is_marked:
            self.end("cancelled")
        elif self.state == "running":
            self.state = "ready"

    def end(self, kind: str) -> None:
        self.ends.append(f"{self.head} {kind}")
        self.head, self.state, self.is_marked = "", "", False
        self.go_on()

    def go_on(self) -> None:
        if not self.head and self.waiting:
            self.head, self.state = self.waiting.pop(0), "ready"


@pytest.mark.parametrize("singleton", [None, *Singleton])
def test_a_key_does_what_the_model_does(singleton: Singleton | None) -> None:
    for seed in range(_SEEDS):
        chance, numbers = Random(f"{seed} {singleton}"), count()
        retry = RetryPolicy(1_000, 2, 4_000, 1_000)
        world, model = world_of(singleton=singleton, retry=retry), Model(singleton)
        work: Work | None = None
        for _ in range(80):
            match chance.choices(
                ["send", "cancel", "take", "end", "time", "crash"], [5, 2, 6, 6, 3, 1]
            )[0]:
                case "send":
                    command = f"a{next(numbers)}"
                    world.send(command, "a")
                    model.send(command)
                case "cancel":
                    world.send_cancel(f"e{next(numbers)}", "a")
                    model.cancel()
                case "take" if model.state == "ready":
                    work = world.take()
                    assert model.head == work.command.id, f"seed {seed}"
                    model.state = "running"
                case "end" if model.state == "running":
                    assert work is not None
                    is_done = chance.random() < 0.4
                    outcome = DONE if is_done else STOPPED if model.is_marked else TRANSIENT
                    world.pipeline.finish(work, outcome)
                    model.finish(is_done)
                case "time" if model.state == "retry":
                    world.now_ms += 4_000
                    model.state = "ready"
                case "crash":
                    world.begin()
                    model.crash()
            world.settle()
            assert model.ends == ends(world), f"seed {seed}"
            is_ready = bool(world.pipeline.ready_flows())
            assert is_ready is (model.state == "ready"), f"seed {seed}"


@dataclass
class Tagged(Model):
    """One key of many, whose commands may be cancelled by a tag."""

    tags: dict[str, str] = field(default_factory=dict)

    def cancel_tag(self, tag: str) -> None:
        meant = [one for one in self.waiting if self.tags[one] == tag]
        self.ends += [f"{one} cancelled" for one in meant]
        self.waiting = [one for one in self.waiting if one not in meant]
        if self.head and self.tags[self.head] == tag:
            if self.state == "running":
                self.is_marked = True
            else:
                self.end("cancelled")


class TagPlay:
    """Two keys whose commands have tags, and the models of both."""

    def __init__(self, seed: int) -> None:
        self.chance, self.numbers = Random(f"{seed} tags"), count()
        retry = RetryPolicy(1_000, 2, 4_000, 1_000)
        parked_max = self.chance.choice([2, 1_000])
        self.world = world_of(retry=retry, has_tags=True, parked_per_key_max=parked_max)
        self.models = {key: Tagged(None) for key in "ab"}
        self.running: dict[str, Work] = {}

    def send(self, key: str) -> None:
        command, model = f"{key}{next(self.numbers)}", self.models[key]
        model.tags[command] = self.chance.choice(["", "x", "y"])
        self.world.send(command, key, tag=model.tags[command])
        model.send(command)

    def cancel_key(self, key: str) -> None:
        self.world.send_cancel(f"e{next(self.numbers)}", key)
        self.models[key].cancel()

    def cancel_tag(self, _: str) -> None:
        tag, is_announced = self.chance.choice("xy"), self.chance.random() < 0.5
        name = f"e{next(self.numbers)}"
        self.world.send_cancel(name, tag, is_tag=True, is_announced=is_announced)
        for model in self.models.values():
            model.cancel_tag(tag)

    def take(self, _: str) -> None:
        if any(model.state == "ready" for model in self.models.values()):
            work = self.world.take()
            key = work.command.key.decode()
            assert self.models[key].head == work.command.id
            self.models[key].state, self.running[key] = "running", work

    def end(self, key: str) -> None:
        model = self.models[key]
        if model.state == "running":
            is_done = self.chance.random() < 0.4
            outcome = DONE if is_done else STOPPED if model.is_marked else TRANSIENT
            self.world.pipeline.finish(self.running.pop(key), outcome)
            model.finish(is_done)

    def pass_time(self, _: str) -> None:
        self.world.now_ms += 4_000
        for model in self.models.values():
            model.state = "ready" if model.state == "retry" else model.state

    def crash(self, _: str) -> None:
        self.world.begin()
        for model in self.models.values():
            model.crash()

    def judge(self) -> None:
        for key, model in self.models.items():
            assert model.ends == [end for end in ends(self.world) if end.startswith(key)]
        is_ready = bool(self.world.pipeline.ready_flows())
        assert is_ready is any(model.state == "ready" for model in self.models.values())


def test_an_event_cancels_by_a_tag_what_the_model_cancels() -> None:
    cancelled = 0
    for seed in range(2 * _SEEDS):
        play = TagPlay(seed)
        moves = [play.send, play.cancel_key, play.cancel_tag, play.take]
        moves += [play.end, play.pass_time, play.crash]
        for _ in range(80):
            (move,) = play.chance.choices(moves, [8, 1, 3, 6, 6, 3, 1])
            move(play.chance.choice("ab"))
            play.world.settle()
            play.judge()
        cancelled += sum(end.endswith("cancelled") for end in ends(play.world))
    assert cancelled > 5 * _SEEDS


@pytest.mark.parametrize("limit", [KeyLimit(1, 5_000), KeyLimit(3, 5_000), KeyLimit(2, 20_000)])
def test_which_commands_run_follows_from_when_they_were_made(limit: KeyLimit) -> None:
    for seed in range(_SEEDS):
        chance, made = Random(seed), dict[str, int]()
        world = world_of(rate_limit=limit)
        for number in range(60):
            match chance.choice(["send", "send", "run", "read", "crash"]):
                case "send":
                    world.now_ms += chance.choice([0, 100, 3_000, 7_000])
                    key = chance.choice("ab")
                    made[f"{key}{number}"] = world.now_ms
                    world.send(f"{key}{number}", key)
                case "run" if world.pipeline.ready_flows():
                    world.run(Done(b"{}"))
                case "read":
                    world.settle()
                case "crash":
                    world.begin()
        world.settle()
        while world.pipeline.ready_flows():
            world.run(Done(b"{}"))
        expected, ran = set(), list[str]()
        for command, at_ms in made.items():
            counted = [o for o in ran if o[0] == command[0] and made[o] > at_ms - limit.per_ms]
            is_limited = len(counted) >= limit.limit
            expected.add(f"{command} {'limited' if is_limited else 'done'}")
            ran += [] if is_limited else [command]
        assert expected == set(ends(world)), f"seed {seed}"
