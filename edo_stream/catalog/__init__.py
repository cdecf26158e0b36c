"""What is done with the registry beside running it: judged, compared, validated against, exported.

The registry says what is declared; a worker needs no more. Here is what a review needs: the rules
that a contract should keep (:mod:`.lint`), what a change breaks (:mod:`.difference`), whether data
fits (:mod:`.payloads`), and the same contracts in the words of other tools (:mod:`.export`).
Nothing here speaks with a broker.
"""
