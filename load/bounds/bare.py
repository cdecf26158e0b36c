"""The worker with nobody told what its tasks do: what the metrics are measured against."""

from edo_stream.app import app
from edo_stream.engine.hooks import Hooks

app.hooks = Hooks()
