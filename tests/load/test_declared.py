"""A burst may be what a contract expects."""

import pytest

from edo_stream.registry.declaration import Rate
from load.profile import Spike, declared_profile


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ({"expected": 200, "peak": 5_000, "burst": 100_000}, (200, 100_000, (Spike(10, 10, 25),))),
        ({"expected": 200, "peak": 1_000}, (200, 12_000, (Spike(10, 10, 5),))),
        ({"expected": 0.5}, (0.5, 10, ())),
    ],
)
def test_profile_has_the_usual_rate_the_peak_and_the_burst(
    rate: dict[str, float], expected: tuple[float, int, tuple[Spike, ...]]
) -> None:
    profile = declared_profile(Rate.model_validate(rate))

    assert expected == (profile.rate, profile.events, profile.spikes)
