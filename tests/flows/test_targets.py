"""What flows call: its rate and breaker, said once for all that share it; how a flow ends."""

import re
from pathlib import Path

import pytest

from edo_stream.actions.build import Outside, targets_of
from edo_stream.core.act.limits import RateLimit
from edo_stream.engine.fleet import Fleet
from edo_stream.flows import Flows, load_flows
from edo_stream.flows.targets import target_policies
from edo_stream.registry import Registry, RegistryError, load

FLOW = """\
name: {name}
owner: team-shipping
description: Ships.
on: shop.order.placed
action: {{kind: noop, idempotency_key: command, replay: safe, timeout: 10s}}
{more}
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(Path(__file__).parents[2] / "topics")


def flows_in(folder: Path, registry: Registry, **more: str) -> Flows:
    for name, text in more.items():
        (folder / f"{name}.yaml").write_text(FLOW.format(name=name, more=text))
    return load_flows(folder, registry)


def test_a_flow_is_a_target_of_its_own(tmp_path: Path, registry: Registry) -> None:
    flows = flows_in(tmp_path, registry, ship="rate: {per_second: 10, burst: 2}", bill="")
    policies = target_policies(flows)
    assert policies["ship"].rate == RateLimit(10, 2)
    assert policies["bill"].rate is None
    assert policies["bill"].breaker.consecutive == 10


def test_flows_share_what_one_of_them_says_of_a_target(tmp_path: Path, registry: Registry) -> None:
    rules = "target: carrier\nrate: {per_second: 10}\nbreaker: {consecutive: 3}"
    flows = flows_in(tmp_path, registry, ship=rules, track="target: carrier")
    policies = target_policies(flows)
    assert list(policies) == ["carrier"]
    assert (policies["carrier"].rate, policies["carrier"].breaker.consecutive) == (RateLimit(10), 3)
    fleet = Fleet("app", "worker", policies, lambda *_: None)
    targets = targets_of(flows, registry, Outside(lambda: 0), fleet)
    assert ["carrier", "carrier"] == [target.name for target in targets.values()]


def test_two_words_about_one_target_are_a_mistake_unless_they_are_the_same(
    tmp_path: Path, registry: Registry
) -> None:
    said = "target: carrier\nrate: {{per_second: {}}}".format
    flows_in(tmp_path, registry, ship=said(10), track=said(10))
    with pytest.raises(RegistryError) as refused:
        flows_in(tmp_path, registry, track=said(20))
    (finding,) = refused.value.findings
    assert finding.file.name == "track.yaml"
    assert finding.message.startswith("rate: not what ship says of target carrier")


def test_a_number_of_runs_at_once_is_the_most(tmp_path: Path, registry: Registry) -> None:
    adaptive = "concurrency: {max: 64, adaptive: true}\nrate_per_key: {per_second: 0.5}"
    flows = flows_in(tmp_path, registry, ship=adaptive, bill="concurrency: 3")
    fleet = Fleet("app", "worker", target_policies(flows), lambda *_: None)
    targets = targets_of(flows, registry, Outside(lambda: 0), fleet)
    ship, bill = targets["ship"].protection, targets["bill"].protection
    assert (ship.concurrency, ship.is_adaptive, ship.rate_per_key) == (64, True, RateLimit(0.5))
    assert (bill.concurrency, bill.is_adaptive, targets["bill"].limit) == (3, False, 3)


def test_a_fallback_has_a_time_limit_of_its_own(tmp_path: Path, registry: Registry) -> None:
    more = "fallback: {kind: noop, idempotency_key: command, replay: safe, timeout: 2s}"
    flows = flows_in(tmp_path, registry, ship=more)
    fleet = Fleet("app", "worker", target_policies(flows), lambda *_: None)
    protection = targets_of(flows, registry, Outside(lambda: 0), fleet)["ship"].protection
    assert (protection.timeout_s, protection.fallback_timeout_s) == (10, 2)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("concurrency: 0", "concurrency.max is 0"),
        ("concurrency: {adaptive: true}", "max is missing in concurrency"),
        ("concurrency: true", "concurrency"),
        ("target: Carrier 7", "target"),
        ("rate_per_key: {per_second: 0}", "rate_per_key.per_second is 0"),
    ],
)
def test_a_mistake_says_where_it_is(
    tmp_path: Path, registry: Registry, more: str, expected: str
) -> None:
    with pytest.raises(RegistryError) as refused:
        flows_in(tmp_path, registry, ship=more)
    (finding,) = refused.value.findings
    assert finding.line == 6
    assert expected in finding.message


def test_a_flow_that_drains_runs_what_is_there_and_is_not_triggered(
    tmp_path: Path, registry: Registry
) -> None:
    flows = flows_in(tmp_path, registry, ship="draining: true", bill="")
    assert [one.flow for one in flows.triggers("shop.order.placed")] == ["bill"]
    assert "edo.commands.ship" in flows.groups["actions"].topics


def test_waits_of_an_earlier_ladder_are_still_read(tmp_path: Path, registry: Registry) -> None:
    more = "retry: {initial: 2s, retries: 1}\nformer_waits: [500ms, 1s]"
    flows = flows_in(tmp_path, registry, ship=more)
    assert flows.groups["actions"].spec.ladder.delays_ms == (500, 1_000, 2_000)


def test_the_guide_s_protection_is_some(tmp_path: Path, registry: Registry) -> None:
    guide = (Path(__file__).parents[2] / "docs/flows.md").read_text()
    (text,) = re.findall(r"```yaml\n(target: .*?)```", guide, flags=re.DOTALL)
    policies = target_policies(flows_in(tmp_path, registry, ship=text))
    assert policies["carrier"].rate == RateLimit(40, 1)
    assert policies["carrier"].breaker.open_ms == 5_000
