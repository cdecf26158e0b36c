"""Rules of the lint of flows; each finds one kind of mistake in one flow."""
