"""Commands run by the engine and by a Faust application as people write it, compared."""
