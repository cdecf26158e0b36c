"""Transactions by the second version of Kafka's protocol (KIP-890), which aiokafka does not speak.

Of the first version's five requests three are left. A Produce adds its partitions to the
transaction and a TxnOffsetCommit its group, without being announced (AddPartitionsToTxn,
AddOffsetsToTxn). EndTxn answers with the identity for the next transaction: each has an epoch of
its own, and its sequences begin at 0. So what is still under way of a transaction that has ended
is refused, whoever sent it and however late it comes.
"""
