"""HTTP ingress of webhooks: verified requests become CloudEvents on Kafka, then are acknowledged.

Theory of operation. A request passes through these hands, each of which may end it:

- ``http``: bytes to exchanges, with a bound for everything that a stranger controls: time, size,
  connections.
- ``app``: which source, from which address, how much at once (``admission``); before the body.
- ``source``: is it believed (``edo_stream.webhooks``, with keys of the ``keyring``), and what does
  it say (``content``, ``expression``): records, or a cause why not.
- ``remembered``: was it acknowledged before?
- ``outgoing``: records to Kafka; the answer is 202 only when all in-sync replicas have them.

What is refused is counted by cause and sampled to a topic (``refusals``), without its body.
``process`` puts it together, ``cli/gateway.py`` runs it. Nothing here knows the engine.
"""
