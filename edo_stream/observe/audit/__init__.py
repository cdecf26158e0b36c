"""Prove that every record ended as exactly one of its fates: the accounts against the topics.

Theory of operation. For each offset of a source partition there are five pieces of evidence, a
byte each: is there a record, which fate did the account of its transaction give it, which fate
a later account (for what was held), how many results name it, how many dead letters. Most of
millions of records share one of a few combinations, so the combinations are judged, not the
records; only the offsets of a bad one are looked up.

Evidence may be given in any order, but for accounts: those of a partition come in the order
of their log. See :mod:`edo_stream.observe.audit.reader` for what makes it a consistent cut of
topics that are being written.
"""
