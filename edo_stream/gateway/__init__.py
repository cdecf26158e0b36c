"""HTTP ingress of webhooks: verified requests become CloudEvents on Kafka, then are acknowledged.

Theory of operation. A request passes through these hands, each of which may end it:

- ``server``: bytes to requests, with a bound for everything that a stranger controls: time,
  size, connections.
- ``admission``: which source, from which address, how much at once; before the body is read.
- ``source``: is it believed (``edo_stream.webhooks``), and what does it say (``content``,
  ``mapping``): records, or a cause why not.
- ``remembered``: was it acknowledged before?
- ``outgoing``: records to Kafka, many in one batch; the answer is 202 only when every in-sync
  replica has them.

What is refused is counted by cause and sampled to a topic (``refusals``), without its body.
``app`` puts it together, ``cli/gateway.py`` runs it. Nothing here knows the engine.
"""
