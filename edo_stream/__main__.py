"""``python -m edo_stream`` is ``edo``."""

from edo_stream.cli.main import main

main()
