"""The worker's application without its act plane: commands are written, and nobody runs them."""

from edo_stream.engine import act_plans

act_plans.act_plans = lambda *_: {}

from edo_stream.app import app  # noqa: E402 - what is left out is left out before it is built

__all__ = ["app"]
