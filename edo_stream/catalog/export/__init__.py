"""The contracts in the words of other tools; each module writes one format, from a shelf."""
