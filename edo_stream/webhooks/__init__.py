"""Webhook schemes: who may say that something happened, and how he proves it.

Pure functions over secrets, headers, body and time. A scheme is compiled from its options once
(:func:`~edo_stream.webhooks.schemes.verifier`) and asked for every request
(:func:`~edo_stream.webhooks.verifier.verify`); the answer is ``Accepted`` or ``Rejected``, never
an exception, whatever a stranger sends. The bytes of the body are judged before anything in them
is read. What must be fetched (a certificate, a key set) is named in the answer
(:class:`~edo_stream.webhooks.verdict.Needed`); the caller fetches it and asks again.
"""
