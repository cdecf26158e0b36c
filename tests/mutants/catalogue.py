"""The mutants: for each invariant of docs/architecture.md, ways in which the code could break it.

A mutant is written down as the text that it replaces. When that text changes, say it here again
with the new one: a mutant that is dropped is a promise that nobody keeps any more.
"""

from typing import Final

from tests.mutants.trial import IMPORTS, Mutant

INVARIANTS: Final = {
    1: "All or nothing",
    2: "Nothing uncommitted on disk",
    3: "One owner",
    4: "Order per key, through everything",
    5: "Never early, never blocked",
    6: "Nothing vanishes",
    7: "Derived identity",
    8: "One clock",
    9: "Everything has a bound",
    10: "Poison never stops a partition",
}

_CORE: Final = "edo_stream/core"
_SAGA: Final = "edo_stream/core/saga"
_SAGAS: Final = "tests/saga/test_histories.py"
_SAGA_RULES: Final = "tests/saga/test_machine.py"
_ENGINE: Final = "edo_stream/engine"
_GAP_TIMERS: Final = "tests/simulation/test_gap_timers.py"
_TAKEOVER: Final = "tests/simulation/test_takeover.py"
_ZOMBIES: Final = "tests/simulation/test_mutants.py"
_EVERY_PLACE: Final = "tests/simulation/test_every_place.py"
_TRANSACTION: Final = "tests/engine/test_transaction.py"
_SECOND: Final = "edo_stream/engine/transaction_v2"
_SCRIPTED: Final = "tests/engine/test_transaction_v2.py"
_PIPELINE: Final = "tests/core/test_pipeline.py"
_FULL_STEPS: Final = "tests/core/test_full_steps.py"
_SEQUENCE: Final = "tests/core/test_sequence.py"
_KNOWN_IDS: Final = "tests/core/test_known_ids.py"
_ORDER: Final = "tests/core/test_native_order.py"
_WIRE_OUTPUT: Final = "tests/core/test_wire_output.py"
_SHARE: Final = "tests/act/test_share.py"
_KEEPER: Final = "tests/act/test_keeper.py"
_CORRELATION: Final = "edo_stream/core/correlation"
_LOOKUP: Final = "edo_stream/core/lookup"
_LOOKUPS: Final = "tests/lookup/test_properties.py"
_LOOKED_UP: Final = "tests/simulation/test_lookups.py"
_GLOBAL: Final = "tests/lookup/test_global_table.py"
_IN_FULL: Final = "tests/simulation/test_global_lookups.py"
_PIECES: Final = "tests/core/test_pieces.py"
_COMPILED: Final = "tests/correlation/test_compiled.py"
_RULES: Final = "tests/correlation/test_correlation.py"
_COMBINING: Final = "tests/correlation/test_combining.py"
_COMBINED: Final = "tests/simulation/test_combine.py"
_REPLIES: Final = "tests/act/test_replies.py"
_REPLYING: Final = "tests/correlation/test_replying.py"
_SAGA_REPLIES: Final = "tests/saga/test_replying.py"
_JOIN_WORLD: Final = "tests/simulation/test_joins.py"
_TAGS: Final = "tests/act/test_tags.py"
_READS: Final = "tests/simulation/test_reads.py"
_ACT_WORLD: Final = "tests/simulation/test_act.py"
_ACT: Final = "edo_stream/core/act"
_CONTROL: Final = "tests/act/test_control.py"
_PAUSE: Final = "tests/act/test_pause.py"
_CONTROL_MODEL: Final = "tests/act/test_control_model.py"


def _any_fault(name: str) -> str:
    return f"{_EVERY_PLACE}::test_a_fault_at_any_opportunity_harms_nothing[{name}]"


MUTANTS: Final = (
    Mutant(
        1,
        "a transaction commits over a delivery that failed",
        f"{_ENGINE}/transaction.py",
        (("                raise outcome\n", "                continue\n"),),
        (_TRANSACTION,),
    ),
    Mutant(
        1,
        "the offsets are left out of the transaction",
        f"{_ENGINE}/transaction.py",
        (("                if offsets:\n", "                if not offsets:\n"),),
        (_TRANSACTION, _EVERY_PLACE),
    ),
    Mutant(
        1,
        "a commit that nobody confirmed is taken for one",
        f"{_ENGINE}/transaction.py",
        (
            (
                'raise OutcomeUnknownError(f"{type(error).__name__}: {error}") from error',
                "del error",
            ),
        ),
        (_TRANSACTION, _EVERY_PLACE),
    ),
    Mutant(
        1,
        "a transaction that was aborted is taken for committed",
        f"{_ENGINE}/transaction.py",
        (
            (
                'raise TransactionAbortedError(f"{type(error).__name__}: {error}") from error',
                "return {}",
            ),
        ),
        (_TRANSACTION, _EVERY_PLACE),
    ),
    Mutant(
        1,
        "the changelog of the ids is left out of the transaction",
        f"{_ENGINE}/task.py",
        (
            (
                "            for table in self.tables\n            if table.rows.changelog\n",
                "            for table in self.tables[:1]\n            if table.rows.changelog\n",
            ),
        ),
        (_EVERY_PLACE,),
    ),
    Mutant(
        1,
        "a changelog offset that the broker did not tell is guessed",
        f"{_ENGINE}/task.py",
        (("            if -1 in last.values():\n", "            if None in last.values():\n"),),
        (_any_fault("produce-duplicate"),),
    ),
    Mutant(
        1,
        "our own producer commits over a delivery that failed",
        f"{_SECOND}/producer.py",
        (("        await self._deliveries.settle()\n", ""),),
        (_SCRIPTED,),
    ),
    Mutant(
        1,
        "sequences of a new epoch go on where those of the last one ended",
        f"{_SECOND}/producer.py",
        (("        self._sequences.clear()\n", ""),),
        (_SCRIPTED,),
    ),
    Mutant(
        1,
        "all batches of a partition are sent at once",
        f"{_SECOND}/deliveries.py",
        (("append(parcels[0])", "extend(parcels)"),),
        (_SCRIPTED,),
    ),
    Mutant(
        1,
        "a transaction commits over batches that nobody sends any more",
        f"{_SECOND}/deliveries.py",
        (("        if self._waiting:\n            # Who", "        if False:\n            # Who"),),
        ("tests/engine/test_deliveries.py",),
    ),
    Mutant(
        1,
        "a batch stays under way when another of its round has failed",
        "edo_stream/engine/gathering.py",
        ((", return_exceptions=True", ""),),
        ("tests/engine/test_deliveries.py",),
    ),
    Mutant(
        1,
        "who waits for batches that were given up waits for ever",
        f"{_SECOND}/deliveries.py",
        (("                    parcel.landed.cancel()\n", "                    pass\n"),),
        ("tests/engine/test_deliveries.py",),
    ),
    Mutant(
        3,
        "a producer that is fenced tries again",
        f"{_SECOND}/fates.py",
        (
            (
                "if code != _NETWORK_EXCEPTION and not error.retriable:",
                "if code not in (_NETWORK_EXCEPTION, *_FENCED) and not error.retriable:",
            ),
        ),
        (_SCRIPTED,),
    ),
    Mutant(
        2,
        "rows reach the disk before the commit",
        f"{_ENGINE}/task.py",
        (
            (
                "            last = await transaction.run(",
                (
                    "            for table in self.tables:\n"
                    "                table.disk.write(table.rows.local, None, now_ms)\n"
                    "            last = await transaction.run("
                ),
            ),
        ),
        (_EVERY_PLACE,),
    ),
    Mutant(
        2,
        "rows reach the disk without the changelog offset that they stand for",
        f"{_ENGINE}/task.py",
        (
            (
                "table.write_through(last.get(table.changelog), now_ms)",
                "table.write_through(None, now_ms)",
            ),
        ),
        (_EVERY_PLACE,),
    ),
    Mutant(
        2,
        "the changelog offset is written on its own, before its rows",
        f"{_ENGINE}/store.py",
        (('batch.put(_OFFSET, b"%d" % offset)', 'self._db.put(_OFFSET, b"%d" % offset)'),),
        ("tests/engine/test_store.py",),
    ),
    Mutant(
        2,
        "rows of an aborted transaction stay above the disk",
        f"{_CORE}/state.py",
        (
            (
                (
                    '"""Forget the uncommitted rows: their transaction did not commit."""\n'
                    "        self.settle()\n"
                ),
                '"""Forget the uncommitted rows: their transaction did not commit."""\n',
            ),
        ),
        ("tests/core/test_state.py", _EVERY_PLACE),
    ),
    Mutant(
        2,
        "decoded rows of an aborted transaction stay in memory",
        f"{_CORE}/state.py",
        (
            (
                'did not commit."""\n        self._rows.clear()\n',
                'did not commit."""\n',
            ),
        ),
        ("tests/core/test_state.py", _EVERY_PLACE),
    ),
    Mutant(
        2,
        "every start wipes the disk and restores in full",
        f"{_ENGINE}/restore.py",
        (("    if offset >= end:\n", "    if offset >= 0:\n"),),
        ("tests/engine/test_restore.py",),
    ),
    Mutant(
        3,
        "a transactional id is new with each start, and fences nobody",
        f"{_ENGINE}/task_spec.py",
        (
            (
                'return f"{self.app}.{self.group}.{partition}"',
                'return f"{self.app}.{self.group}.{partition}.{next(_EPOCHS)}"',
            ),
        ),
        (_TAKEOVER, _EVERY_PLACE),
    ),
    Mutant(
        3,
        "the tables are restored before the former owner is fenced",
        f"{_ENGINE}/task.py",
        (
            (
                (
                    "        async with asyncio.timeout(self.spec.transaction_timeout_s + 30):\n"
                    "            await self._producer.start()\n"
                ),
                "",
            ),
            (
                "        await self._position()\n        for",
                "        await self._producer.start()\n        await self._position()\n        for",
            ),
        ),
        (_TAKEOVER,),
    ),
    Mutant(
        3,
        "a fenced task starts over without a later heartbeat",
        f"{_ENGINE}/task.py",
        (("confirmed_since(failed_at, ", "confirmed_since(-1.0, "),),
        (f"{_ZOMBIES}::test_a_zombie_leaves_the_rightful_owner_alone",),
    ),
    Mutant(
        3,
        "a zombie never gives up",
        f"{_ENGINE}/task.py",
        (("            if is_fenced:\n", "            if None is is_fenced:\n"),),
        (f"{_ZOMBIES}::test_a_zombie_leaves_the_rightful_owner_alone",),
    ),
    Mutant(
        3,
        "a new owner decides by what it had in memory, not by what it has restored",
        f"{_ENGINE}/task.py",
        (("        self.pipeline.restore()\n        self.stats", "        self.stats"),),
        (_EVERY_PLACE,),
    ),
    Mutant(
        4,
        "an event does not wait for the numbers before it",
        f"{_CORE}/resequencer.py",
        (
            (
                "            self._place_later(name, row, record, event)\n",
                "            self._outlet.emit(record, event)\n",
            ),
        ),
        (_SEQUENCE,),
    ),
    Mutant(
        4,
        "what was held stays held when its turn has come",
        f"{_CORE}/resequencer.py",
        (("        if row.held or row.filled:\n", "        if row.filled:\n"),),
        (_SEQUENCE,),
    ),
    Mutant(
        4,
        "numbers are given up without a word",
        f"{_CORE}/resequencer.py",
        (
            (
                (
                    "            self._step.publish.append(\n"
                    "                self._notices.gap(self._topic, key, missing, reason, "
                    "self._step.now_ms)\n            )\n"
                ),
                "",
            ),
            ("        key = name[len(self._prefix) :]\n", ""),
            ("            missing = (row.next, first - 1)\n", ""),
        ),
        (_SEQUENCE,),
    ),
    Mutant(
        4,
        "an event that comes after all is not marked as late",
        f"{_CORE}/resequencer.py",
        (("self._outlet.emit(record, event, is_late=True)", "self._outlet.emit(record, event)"),),
        (_SEQUENCE,),
    ),
    Mutant(
        4,
        "a position that is not later than the last goes on",
        f"{_CORE}/monotonic.py",
        (("position > row.position or", "position >= row.position or"),),
        ("tests/core/test_monotonic.py",),
    ),
    Mutant(
        5,
        "timers fire although the log was not read to its end",
        f"{_CORE}/pipeline.py",
        (("self._fire(min(now_ms, caught_up_ms))", "self._fire(now_ms)"),),
        (_SEQUENCE, _GAP_TIMERS),
    ),
    Mutant(
        4,
        "in C, what waits goes on in the order in which it came",
        f"{_CORE}/_native_order.pxi",
        (("        return ready\n", "        return sorted(ready, key=lambda one: one[2])\n"),),
        (_ORDER,),
    ),
    Mutant(
        4,
        "in C, an event goes on behind one that has not come",
        f"{_CORE}/_native_order.pxi",
        (
            (
                "        cdef int64_t number = self._number + 1\n",
                "        cdef int64_t number = self._number + 2\n",
            ),
        ),
        (_ORDER,),
    ),
    Mutant(
        4,
        "in C, an event follows itself in a sequence",
        f"{_CORE}/_native_waits.pxi",
        (
            (
                "if held_ms == next_ms and _is_equal(other.position, events[i + 1].position):",
                "if False:",
            ),
        ),
        (_COMPILED,),
    ),
    Mutant(
        4,
        "in C, a sequence begins with the earliest event that may",
        f"{_CORE}/_native_waits.pxi",
        (("held_ms > next_ms or held_ms < best_ms:", "held_ms > next_ms or best_ms >= 0:"),),
        (_COMPILED,),
    ),
    Mutant(
        5,
        "in C, a sequence may take longer than its time",
        f"{_CORE}/_native_waits.pxi",
        (("return at_ms - next_ms <= wait._within_ms", "return True"),),
        (_COMPILED,),
    ),
    Mutant(
        5,
        "in C, what a sequence leaves has the deadline of what went into it",
        f"{_CORE}/_native_waits.pxi",
        (("            self._rearm(wait, row, key, heads)\n", "            pass\n"),),
        (_COMPILED,),
    ),
    Mutant(
        6,
        "in C, a member counts as often as it comes in a step",
        f"{_CORE}/_native_waits.pxi",
        (("            if place in fresh or (", "            if ("),),
        (_COMPILED,),
    ),
    Mutant(
        9,
        "a file's filter is read as a whole for each row",
        f"{_ENGINE}/store.py",
        (("    table.set_partition_filters(True)\n", ""),),
        ("tests/engine/test_store.py",),
    ),
    Mutant(
        6,
        "in C, what waits as a flow was declared before is taken for what it says now",
        f"{_CORE}/_native_waits.pxi",
        (
            (
                '            or held and <int64_t>_field(row, _WAIT_SHAPE, "shape") != wait._own\n',
                "",
            ),
        ),
        (_COMPILED,),
    ),
    Mutant(
        6,
        "in C, a wait does not say that it is of a flow's edit",
        f"{_CORE}/_native_waits.pxi",
        (('_put_field(row, _WAIT_SHAPE, "shape", wait._own)', "pass"),),
        (_COMPILED,),
    ),
    Mutant(
        9,
        "in C, a result may be larger than its topic takes",
        f"{_CORE}/_native_waits.pxi",
        (("if size + _counted(&headers) > self._bytes_max:", "if False:"),),
        (_COMPILED,),
    ),
    Mutant(
        9,
        "in C, more events are put together than there is room for",
        f"{_CORE}/_native_waits.pxi",
        (("held >= _FIRED_MAX", "False"),),
        (_COMPILED,),
    ),
    Mutant(
        6,
        "in C, a member counts that is not in the list",
        f"{_CORE}/_native_waits.pxi",
        (("(wait._members is not None and place not in wait._members)", "False"),),
        (_COMPILED,),
    ),
    Mutant(
        6,
        "in C, a member counts again that came in an earlier step",
        f"{_CORE}/_native_waits.pxi",
        (("if held != len(fresh) and ", "if False and "),),
        (_COMPILED,),
    ),
    Mutant(
        6,
        "in C, events that went into a result are held on",
        f"{_CORE}/_native_waits.pxi",
        (("        self._events.take_all(name)\n", ""),),
        (_COMPILED,),
    ),
    Mutant(
        4,
        "in C, members are in a result as they came",
        f"{_CORE}/_native_waits.pxi",
        (("if not is_in and place < there:", "if False:"),),
        (_COMPILED,),
    ),
    Mutant(
        5,
        "in C, the timer of a gap that was closed stays",
        f"{_CORE}/_native_order.pxi",
        (("            if before_ms is not None:\n", "            if False:\n"),),
        (_ORDER,),
    ),
    Mutant(
        5,
        "in C, nobody waits for a gap to time out",
        f"{_CORE}/_native_order.pxi",
        (("            if due_ms is not None:\n", "            if False:\n"),),
        (_ORDER,),
    ),
    Mutant(
        9,
        "in C, what has gone on is counted among what waits",
        f"{_CORE}/_native_order.pxi",
        (("        self._count(source, -len(ready))\n", ""),),
        (_ORDER,),
    ),
    Mutant(
        9,
        "in C, a key holds as much as comes",
        f"{_CORE}/_native_order.pxi",
        (("        if held >= self._per_key_max:\n", "        if False:\n"),),
        (_ORDER,),
    ),
    Mutant(
        6,
        "in C, an event that is held takes the place of one with its number",
        f"{_CORE}/_native_order.pxi",
        (
            (
                "        if self._waiting is not None and self._number in self._waiting:\n",
                "        if False:\n",
            ),
        ),
        (_ORDER,),
    ),
    Mutant(
        5,
        "a task takes the end of the log for reached",
        f"{_ENGINE}/task.py",
        (
            (
                (
                    "return position is not None and position >= end and last is not None "
                    "and last < expected"
                ),
                "return position is not None or last is not None",
            ),
        ),
        (_GAP_TIMERS,),
    ),
    Mutant(
        5,
        "a batch on its way is overlooked when a timer is due",
        f"{_ENGINE}/task.py",
        ((" and last is not None and last < expected\n", " and last is not None\n"),),
        (_GAP_TIMERS,),
    ),
    Mutant(
        5,
        "open transactions of others do not hold back a timer",
        f"{_ENGINE}/task.py",
        (
            (
                "ends = await self._ports.intake.high_watermarks(partitions)",
                "ends = [end for _, end in await self._ports.intake.log_bounds(partitions)]",
            ),
        ),
        (_GAP_TIMERS,),
    ),
    Mutant(
        5,
        "timers fire up to a second early",
        f"{_CORE}/timers.py",
        (("_DUE.pack(limit_ms + 1)", "_DUE.pack(limit_ms + 1_000)"),),
        ("tests/core/test_timers.py",),
    ),
    Mutant(
        5,
        "nobody wakes a task whose timer is due",
        f"{_ENGINE}/task.py",
        (
            (
                "self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake.set)",
                "self._timer = asyncio.get_running_loop().call_later(wait_s, int)",
            ),
        ),
        (_EVERY_PLACE,),
    ),
    Mutant(
        6,
        "a batch that was dropped on the way is not missed when the next one comes",
        f"{_ENGINE}/task.py",
        (
            (
                "if handed.previous >= expected[partition]:",
                "if handed.previous >= expected[partition] + 2**62:",
            ),
        ),
        (_any_fault("batch-dropped"),),
    ),
    Mutant(
        6,
        "a last batch that was dropped on the way is never missed",
        f"{_ENGINE}/task.py",
        (
            (
                "        if self.phase is not Phase.RUNNING or self._busy or self._is_to_take():\n",
                "        if self.phase is not Phase.FENCING:\n",
            ),
        ),
        (_any_fault("batch-dropped"),),
    ),
    Mutant(
        6,
        "a dead letter is counted and not published",
        f"{_CORE}/outlet.py",
        (("        self._step.publish.append(letter)\n", "        del letter\n"),),
        (_PIPELINE,),
    ),
    Mutant(
        6,
        "accounts speak of records that were never there",
        f"{_CORE}/accounts.py",
        (("if offset != expected or next_fate is not fate:", "if next_fate is not fate:"),),
        ("tests/core/test_accounts.py",),
    ),
    Mutant(
        6,
        "what was held and goes on later is not accounted for",
        f"{_CORE}/ledger.py",
        (("            self._settled.append((offset, fate))\n", "            pass\n"),),
        (_SEQUENCE,),
    ),
    Mutant(
        6,
        "an id is a duplicate for ever",
        f"{_CORE}/dedupe.py",
        (("known_s * 1000 > stream_ms:", "known_s * 1000 > 0:"),),
        ("tests/core/test_dedupe.py",),
    ),
    Mutant(
        7,
        "ids of results do not tell partitions apart",
        f"{_CORE}/outlet.py",
        (
            (
                'cause = ("result", identity.app, topic, str(partition))',
                'cause = ("result", identity.app, topic)',
            ),
        ),
        (_PIPELINE, "tests/core/test_golden.py"),
    ),
    Mutant(
        7,
        "ids of results depend on when they were made",
        f"{_CORE}/outlet.py",
        (
            (
                '("ce_id", self._id_of(offset))',
                '("ce_id", self._id_of(offset + self._step.now_ms))',
            ),
        ),
        ("tests/core/test_repeats.py",),
    ),
    Mutant(
        7,
        "ids of dead letters depend on when they were made",
        f"{_CORE}/dead_letter.py",
        (
            (
                "topic, str(partition), str(offset)).encode()",
                "topic, str(partition), str(now_ms)).encode()",
            ),
        ),
        ("tests/core/test_repeats.py",),
    ),
    Mutant(
        7,
        "ids of notices depend on when they were made",
        f"{_CORE}/notices.py",
        (("str(first), str(last))", "str(first), str(now_ms))"),),
        ("tests/core/test_repeats.py",),
    ),
    Mutant(
        8,
        "the core reads a clock",
        f"{_CORE}/pipeline.py",
        (
            ("from typing import Final\n", "from time import time_ns\nfrom typing import Final\n"),
            (
                "        self._begin(now_ms)\n",
                "        now_ms = time_ns() // 1_000_000\n        self._begin(now_ms)\n",
            ),
        ),
        (IMPORTS,),
    ),
    Mutant(
        8,
        "a dead letter reads the clock for itself",
        f"{_CORE}/dead_letter.py",
        (
            ("from hashlib import sha256\n", "import time\nfrom hashlib import sha256\n"),
            ('("edo-at", b"%d" % now_ms)', '("edo-at", b"%d" % (time.time_ns() // 1_000_000))'),
        ),
        (_PIPELINE,),
    ),
    Mutant(
        8,
        "changelogs are written at another time than the step's",
        f"{_ENGINE}/task.py",
        (
            (
                "await self._commit(effects, moved, now_ms)",
                "await self._commit(effects, moved, self._ports.now_ms())",
            ),
        ),
        ("tests/simulation/test_steps.py",),
    ),
    Mutant(
        8,
        "a step is given another time than its transaction",
        f"{_ENGINE}/task.py",
        (
            (
                "await self._decide(batches, now_ms)",
                "await self._decide(batches, self._ports.now_ms())",
            ),
        ),
        ("tests/simulation/test_steps.py",),
    ),
    Mutant(
        5,
        "a partition that is moved to during a fetch waits until others have records",
        f"{_ENGINE}/transport.py",
        (("self._epochs.keys(),", "frozenset(self._epochs),"),),
        ("tests/engine/test_transport.py",),
    ),
    Mutant(
        9,
        "fetching never pauses",
        f"{_ENGINE}/transport.py",
        (
            (
                "if (records >= RECORDS_HIGH or size_bytes >= BYTES_HIGH) and",
                "if (records >= 2**62 or size_bytes >= 2**62) and",
            ),
        ),
        ("tests/engine/test_transport.py",),
    ),
    Mutant(
        9,
        "fetching pauses by records only, however large they are",
        f"{_ENGINE}/transport.py",
        (
            (
                "if (records >= RECORDS_HIGH or size_bytes >= BYTES_HIGH) and",
                "if records >= RECORDS_HIGH and",
            ),
        ),
        ("tests/engine/test_transport.py",),
    ),
    Mutant(
        9,
        "fetching never goes on after a pause",
        f"{_ENGINE}/transport.py",
        (
            (
                "records <= RECORDS_LOW and size_bytes <= BYTES_LOW",
                "records < 0 and size_bytes < 0",
            ),
        ),
        ("tests/engine/test_transport.py",),
    ),
    Mutant(
        9,
        "a transaction takes all that there is",
        f"{_ENGINE}/task.py",
        (("            room -= len(handed.records)\n", ""),),
        ("tests/simulation/test_steps.py",),
    ),
    Mutant(
        9,
        "a key holds as many events as come",
        f"{_CORE}/resequencer.py",
        (("row.held >= policy.held_per_key_max", "row.held >= 2**62"),),
        (_SEQUENCE,),
    ),
    Mutant(
        9,
        "a partition holds as many events as come",
        f"{_CORE}/resequencer.py",
        (("held >= policy.held_per_partition_max", "held >= 2**62"),),
        (_SEQUENCE,),
    ),
    Mutant(
        9,
        "decoded rows stay in memory for ever",
        f"{_CORE}/state.py",
        (("if len(self._rows) > self._rows_max:", "if len(self._rows) < 0:"),),
        ("tests/core/test_state.py",),
    ),
    Mutant(
        9,
        "a disk that is opened again has a cache of its own, and no filters",
        f"{_ENGINE}/store.py",
        ((", column_families=columns)", ")"),),
        ("tests/engine/test_store.py",),
    ),
    Mutant(
        9,
        "ids that are rows are kept beyond their time to live",
        f"{_CORE}/dedupe.py",
        (("            self._forget(row, record)\n", "            pass\n"),),
        (_KNOWN_IDS,),
    ),
    Mutant(
        1,
        "ids of a step that was aborted stay in memory",
        f"{_CORE}/dedupe.py",
        (("            self._memory = None\n", "            pass\n"),),
        (_KNOWN_IDS,),
    ),
    Mutant(
        6,
        "an id that has become a row is forgotten",
        f"{_CORE}/dedupe.py",
        (("                table.keep(name, expiry)\n", "                pass\n"),),
        (_KNOWN_IDS,),
    ),
    Mutant(
        6,
        "an id that is in memory and a row counts by its earlier expiry",
        f"{_CORE}/dedupe.py",
        (("return max(one, other)", "return min(one, other)"),),
        (_KNOWN_IDS,),
    ),
    Mutant(
        6,
        "ids on the disk are not read again when their task starts",
        f"{_CORE}/dedupe.py",
        (("                self._add(self._memory, record)\n", "                pass\n"),),
        (_KNOWN_IDS,),
    ),
    Mutant(
        9,
        "ids in memory are as many as come",
        f"{_CORE}/dedupe.py",
        (("if self._budget.is_spent:", "if False:"),),
        (_KNOWN_IDS,),
    ),
    Mutant(
        9,
        "ids that have expired stay in memory",
        f"{_CORE}/dedupe.py",
        (
            (
                "            self._remove(record)\n            self._table.forget(row)\n",
                "            self._table.forget(row)\n",
            ),
        ),
        (_KNOWN_IDS,),
    ),
    Mutant(
        9,
        "each busy task spends all of the worker's transactions",
        f"{_ENGINE}/pace.py",
        (("len(self._last) * self._interval_s", "self._interval_s"),),
        ("tests/engine/test_pace.py",),
    ),
    Mutant(
        10,
        "a codec that fails stops the task",
        f"{_CORE}/lane.py",
        (
            (
                'return Violation("undecodable", f"codec failed: {type(error).__name__}")',
                "raise error",
            ),
        ),
        (_PIPELINE,),
    ),
    Mutant(
        10,
        "a result that its topic refuses is sent all the same",
        f"{_CORE}/outlet.py",
        (("if size_bytes > self._bytes_max:", "if size_bytes > 2**62:"),),
        (_PIPELINE,),
    ),
    Mutant(
        10,
        "a dead letter that its topic refuses is sent all the same",
        f"{_CORE}/dead_letter.py",
        (
            (
                "if bytes_of(record) + size_of(why) > contract.record_bytes_max + _SLACK_BYTES:",
                "if bytes_of(record) + size_of(why) > 2**62:",
            ),
        ),
        (_PIPELINE,),
    ),
    Mutant(
        10,
        "a dead letter has lost its bytes",
        f"{_CORE}/dead_letter.py",
        (
            (
                "key, value, kept = record.key, record.value, list(record.headers)",
                "key, value, kept = record.key, (record.value or b'')[:8], list(record.headers)",
            ),
        ),
        (_PIPELINE,),
    ),
    Mutant(
        10,
        "the key of a dead letter waits for its number",
        f"{_CORE}/lane.py",
        (
            (
                "        if self.is_numbered and violation.key is not None:\n",
                "        if self.is_numbered and violation.key == violation.reason:\n",
            ),
        ),
        (_SEQUENCE,),
    ),
    Mutant(
        3,
        "a broken target is probed by two workers at a time",
        f"{_CORE}/act/keeper.py",
        (("is_free = kept.probe is None or kept.probe[0] == ask.worker", "is_free = True"),),
        (_KEEPER,),
    ),
    Mutant(
        3,
        "the right to probe runs from when it is heard",
        f"{_CORE}/act/share.py",
        (
            (
                "                    self._right = asked\n",
                "                    self._right = _Said(asked.number, now_ms)\n",
            ),
        ),
        (_SHARE,),
    ),
    Mutant(
        9,
        "a worker uses what was granted to a question that it has given up",
        f"{_CORE}/act/share.py",
        (
            (
                "if (grant.worker, grant.number) == (self._worker, asked.number):",
                "if grant.worker == self._worker:",
            ),
        ),
        (_SHARE,),
    ),
    Mutant(
        9,
        "the new owner of a target forgets what the last one has granted",
        f"{_CORE}/act/keeper.py",
        (
            (
                "kept.slots = Slots(kept.rate, now_ms + kept.lead_ms)",
                "kept.slots = Slots(kept.rate, now_ms)",
            ),
        ),
        (_KEEPER,),
    ),
    Mutant(
        9,
        "tokens are saved up",
        f"{_CORE}/act/limits.py",
        (("+ LEASE_MS >= now_ms:", "+ LEASE_MS * 100 >= now_ms:"),),
        (_SHARE,),
    ),
    Mutant(
        1,
        "a reply is written with the end of the next command, not of its own",
        f"{_CORE}/act/outlet.py",
        (
            (
                "        self._step.publish += [fitting_end(one, bytes_max) for one in told if one",
                (
                    "        late = self.__dict__.setdefault('late', [])\n"
                    "        self._step.publish += late[-1:]\n"
                    "        late += [fitting_end(one, bytes_max) for one in told if one"
                ),
            ),
        ),
        (_REPLIES, _ACT_WORLD),
    ),
    Mutant(
        5,
        "a request is run although its time is over",
        f"{_ENGINE}/act.py",
        (
            (
                "if self._act.expire(flow, self._ports.now_ms()):",
                "if self._act.expire(flow, 0):",
            ),
        ),
        (_ACT_WORLD,),
    ),
    Mutant(
        5,
        "a request is run although its time is over since its start was to be committed",
        f"{_ENGINE}/act.py",
        (("if self._act.end_expired(work, now_ms):", "if self._act.end_expired(work, 0):"),),
        (_ACT_WORLD,),
    ),
    Mutant(
        9,
        "a request has a worker write where it likes",
        f"{_CORE}/asked.py",
        (("        if topic != self.topic:\n", "        if topic == self.flow:\n"),),
        (_REPLIES,),
    ),
    Mutant(
        9,
        "a command tells any number of requests of its end",
        f"{_CORE}/asked.py",
        (("if kept == ASKERS_MAX or", "if kept == -1 or"),),
        (_REPLYING,),
    ),
    Mutant(
        4,
        "what cancels by a field ends all that waits of a key",
        f"{_CORE}/act/in_hand.py",
        (
            (
                "if tag in work.command.tags:\n                        found",
                "if tag:\n                        found",
            ),
        ),
        (_CONTROL_MODEL,),
    ),
    Mutant(
        6,
        "what cancels by a field does not find the head of a key whose retry was not read yet",
        f"{_CORE}/act/pipeline.py",
        (
            (
                "            row.error, row.tags = error, command.tags\n",
                "            row.error = error\n",
            ),
        ),
        (_TAGS, _ACT_WORLD),
    ),
    Mutant(
        6,
        "what cancels by a field does not find what was parked before a restart",
        f"{_CORE}/act/in_hand.py",
        (("        self._restore_tags()\n", "        self.tagged.clear()\n"),),
        (_CONTROL_MODEL, _ACT_WORLD),
    ),
    Mutant(
        6,
        "what cancels by a field looks for its commands on one partition",
        f"{_CORE}/trigger.py",
        (("for partition in range(trigger.partitions):", "for partition in range(1):"),),
        ("tests/flows/test_cancel_by.py",),
    ),
    Mutant(
        6,
        "a request whose event is replaced by another one is never told",
        f"{_CORRELATION}/waits.py",
        (("replies is not None and fate in _ENDED:", "replies is not None and not _ENDED:"),),
        (_REPLYING, _JOIN_WORLD),
    ),
    Mutant(
        6,
        "a request whose wait times out is never told",
        f"{_CORRELATION}/outlet.py",
        (
            (
                "        for part in inputs:\n            self.answer(",
                "        for part in ():\n            self.answer(",
            ),
        ),
        (_REPLYING,),
    ),
    Mutant(
        1,
        "who asked for the end of a saga is told of each end that it has",
        f"{_SAGA}/replies.py",
        (("        self._state.write(ASKER + name, None)\n", "        pass\n"),),
        (_SAGA_REPLIES, _SAGAS),
    ),
    Mutant(
        6,
        "a request that starts no instance, since its key has one, is never told",
        f"{_SAGA}/replies.py",
        (("if value is None or _decode(value) != asker:", "if value is None and asker is None:"),),
        (_SAGA_REPLIES, "tests/simulation/test_saga.py"),
    ),
    Mutant(
        6,
        "a request that breaks its contract is never told",
        f"{_CORE}/outlet.py",
        (
            (
                "        if self.router is not None:\n            self._step",
                "        if self.router is None:\n            self._step",
            ),
        ),
        ("tests/requests/test_ends.py",),
    ),
    Mutant(
        6,
        "who asks for an event that is split is never told of the whole",
        f"{_CORE}/trigger.py",
        (("replace(joined, asker=_asker(feed, event))", "replace(joined, asker=None)"),),
        ("tests/requests/test_ends.py",),
    ),
    Mutant(
        7,
        "a late reply is taken for a later request of its correlation",
        "edo_stream/requester.py",
        (
            (
                "else self._waiting.get(reply.request)\n",
                (
                    "else next((one for one in self._waiting.values()"
                    " if one.correlation_id == reply.correlation_id), None)\n"
                ),
            ),
        ),
        ("tests/requests/test_requester.py",),
    ),
    Mutant(
        3,
        "a worker that the group has given up shows states",
        f"{_ENGINE}/read_model.py",
        (
            (
                "        if silent_s >= task.spec.session_timeout_s:\n",
                "        if silent_s >= 10_000:\n",
            ),
        ),
        ("tests/engine/test_read_model.py",),
    ),
    Mutant(
        1,
        "who reads a state is shown what is not committed",
        f"{_ENGINE}/read_model.py",
        (("    return Table(task.tables[0].disk)\n", "    return task.tables[0].rows\n"),),
        ("tests/engine/test_read_model.py", _READS),
    ),
    Mutant(
        1,
        "who reads a state does not wait for the offset that it names",
        f"{_ENGINE}/read_model.py",
        (("            if following >= end:\n", "            if following <= end:\n"),),
        (_READS,),
    ),
    Mutant(
        1,
        "who reads a state does not wait for the task that reads the input first",
        f"{_ENGINE}/read_model.py",
        (
            (
                "if offset is not None and offset >= before[partition]:",
                "if offset is not None:",
            ),
        ),
        (_READS,),
    ),
    Mutant(
        1,
        "what an input led to is not waited for",
        f"{_ENGINE}/read_model.py",
        (("own[partition] = max(end, own.get(partition, 0))", "del end"),),
        (_READS,),
    ),
    Mutant(
        6,
        "a task leaves behind what a flow that is gone has parked",
        f"{_CORE}/act/keys.py",
        (("        if flow not in flows:\n", "        if flow == flows:\n"),),
        ("tests/engine/test_leftovers.py",),
    ),
    Mutant(
        1,
        "instances of a saga outlive a transaction that did not commit",
        f"{_SAGA}/pipeline.py",
        (("        self._instances.discard()\n", ""),),
        (_SAGAS,),
    ),
    Mutant(
        4,
        "a step of a saga is undone before what came after it",
        f"{_SAGA}/machine.py",
        (
            (
                "if state.status in _TO_UNDO and self._is_behind_settled(step):",
                "if state.status in _TO_UNDO:",
            ),
        ),
        (_SAGAS,),
    ),
    Mutant(
        5,
        "a saga's step is overdue while its reply lies unread",
        f"{_SAGA}/pipeline.py",
        (("self._fire(min(now_ms, caught_up_ms))", "self._fire(now_ms)"),),
        (_SAGA_RULES,),
    ),
    Mutant(
        6,
        "a saga turns back although its pivot is on its way",
        f"{_SAGA}/machine.py",
        (
            (
                "            StepStatus.WAITING,\n            StepStatus.FAILED,\n",
                "            StepStatus.WAITING,\n            StepStatus.SENT,\n",
            ),
        ),
        (_SAGA_RULES,),
    ),
    Mutant(
        7,
        "a step that is sent again has the id of its first command",
        f"{_SAGA}/machine.py",
        (("self._row.id, step, direction, str(attempt)", "self._row.id, step, direction"),),
        (_SAGA_RULES,),
    ),
    Mutant(
        7,
        "a replay makes a command of what was dropped as a duplicate",
        f"{_CORE}/replay.py",
        (("if fate is not Fate.EMITTED:", "if fate not in (Fate.EMITTED, Fate.DUPLICATE):"),),
        ("tests/replay/test_replay.py",),
    ),
    Mutant(
        10,
        "an outcome that cannot be written reaches the transaction",
        "edo_stream/actions/supervised.py",
        (
            (
                "return _bounded(await self._executor(command), command)",
                "return await self._executor(command)",
            ),
        ),
        ("tests/actions/test_supervised.py",),
    ),
    Mutant(
        1,
        "a statement runs again whatever the inbox says",
        "edo_stream/actions/sql.py",
        (("        return cursor.rowcount == 1\n", "        return True\n"),),
        ("tests/local/test_inbox.py",),
    ),
    Mutant(
        9,
        "what a program has started outlives it",
        "edo_stream/actions/process.py",
        (("            _signal(transport, SIGKILL)\n", ""),),
        ("tests/actions/test_process.py",),
    ),
    Mutant(
        5,
        "a partition with a backlog keeps all slots of a target",
        f"{_ENGINE}/target.py",
        (
            (
                "for call_back in list(self._waiting):",
                "for call_back in reversed(list(self._waiting)):",
            ),
        ),
        ("tests/engine/test_runs.py",),
    ),
    Mutant(
        7,
        "each attempt starts a DAG run of its own",
        "edo_stream/actions/airflow.py",
        (("sha256(command.id.encode())", 'sha256(f"{command.id}/{command.attempt}".encode())'),),
        ("tests/actions/test_airflow.py",),
    ),
    Mutant(
        10,
        "what an event says begins another header",
        "edo_stream/actions/http.py",
        (("            if _CONTROL.search(value):\n", "            if not value:\n"),),
        ("tests/actions/test_http.py",),
    ),
    Mutant(
        6,
        "the audit asks for no retry of what was to be run again",
        "edo_stream/observe/audit/commands.py",
        (("    elif not retries and is_retried and evidence.is_firm:\n", "    elif False:\n"),),
        ("tests/audit/test_audit_commands.py",),
    ),
    Mutant(
        6,
        "the audit takes a second outcome of a command for the first",
        "edo_stream/observe/audit/commands.py",
        (("    if outcomes > 1:\n", "    if outcomes > 3:\n"),),
        ("tests/audit/test_audit_commands.py",),
    ),
    Mutant(
        6,
        "an event that is sent again is a double of itself",
        f"{_CORE}/redrive.py",
        (("if headers and headers[-1][0] == REDRIVE else None", "if not headers else None"),),
        ("tests/core/test_redrive.py",),
    ),
    Mutant(
        6,
        "an event passes dedupe however often it comes as sent again",
        f"{_CORE}/dedupe.py",
        (
            (
                "        return self.admit(again, self.recall([again])[0],",
                "        return True or self.admit(again, None,",
            ),
        ),
        ("tests/core/test_redrive.py",),
    ),
    Mutant(
        6,
        "a dead letter whose acknowledgement was read first waits for ever",
        "edo_stream/observe/letters_watch.py",
        (("        if name in self._acknowledged:\n            return\n", ""),),
        ("tests/observe/test_letters_watch.py",),
    ),
    Mutant(
        9,
        "requests are taken however far the workers are behind",
        "edo_stream/gateway/backlog.py",
        (("and depth.lag > bound.lag_max:", "and depth.lag < 0:"),),
        ("tests/gateway/test_backlog.py",),
    ),
    Mutant(
        5,
        "a debounced key fires although the cap of it is not past and it is not quiet",
        f"{_CORRELATION}/debouncing.py",
        (
            (
                "while row.bursts and self._due_ms(row.bursts[0]) <= due_ms:",
                "while row.bursts:",
            ),
        ),
        (_COMBINING, _COMBINED),
    ),
    Mutant(
        5,
        "a debounced key is taken for quiet at an event that is read before those between",
        f"{_CORRELATION}/debouncing.py",
        (
            (
                "while len(row.bursts) > 1 and self._is_full(row):",
                "while len(row.bursts) > 1:",
            ),
        ),
        (_COMBINING, _COMBINED),
    ),
    Mutant(
        5,
        "a deadline does not wait for what the tasks before have not passed on",
        f"{_ENGINE}/joins.py",
        (
            (
                "if not await self._has_passed_on(ends):",
                "if False:",
            ),
        ),
        (_COMBINED,),
    ),
    Mutant(
        9,
        "the cap of a debounce is ignored",
        f"{_CORRELATION}/debouncing.py",
        (
            (
                "return min(burst.last.at_ms + quiet_ms, burst.first_ms + max_ms)",
                "return burst.last.at_ms + quiet_ms",
            ),
        ),
        (_COMBINING, _COMBINED),
    ),
    Mutant(
        9,
        "a batch takes more bytes than it may",
        f"{_CORRELATION}/batching.py",
        (("elif row.size_bytes + arrival.size_bytes > self._kind.size_bytes:", "elif False:"),),
        (_COMBINING,),
    ),
    Mutant(
        10,
        "a command of many events is written although no topic takes it",
        f"{_CORRELATION}/outlet.py",
        (("        if not fits(command, target.bytes_max):", "        if False:"),),
        (_COMBINING,),
    ),
    Mutant(
        1,
        "a command's start counts for its throttle, but is not committed first",
        f"{_ACT}/pipeline.py",
        (
            (
                "return takes_turns(work.command, policy) and not self.is_known(work.command)",
                "return False",
            ),
        ),
        (_CONTROL,),
    ),
    Mutant(
        1,
        "that a command is cancelled is not kept until it has ended",
        f"{_ACT}/cancels.py",
        (("self._state.write(_ROW + queue, msgspec.msgpack.encode(row))", "pass"),),
        (_CONTROL, _CONTROL_MODEL),
    ),
    Mutant(
        4,
        "the next of a key begins while a cancelled run of it has not ended",
        f"{_ACT}/in_hand.py",
        (
            (
                "        if self.ready.remove(work):\n",
                "        if self.ready.remove(work) or True:\n",
            ),
        ),
        (_CONTROL, _CONTROL_MODEL),
    ),
    Mutant(
        4,
        "a run that goes on over an abort is cancelled beside itself",
        f"{_ACT}/in_hand.py",
        (("            if not self._is_known(work.command):\n", "            if True:\n"),),
        (_CONTROL,),
    ),
    Mutant(
        4,
        "a retry that runs over an abort is cancelled beside itself",
        f"{_ACT}/in_hand.py",
        (("if head is not None and not self.has_begun(head.command):", "if head is not None:"),),
        (_CONTROL,),
    ),
    Mutant(
        4,
        "a run that was cancelled is forgotten when it ends before it is adopted",
        f"{_ENGINE}/runs.py",
        (
            (
                "        self._ended[name] = outcome\n",
                "        if outcome is not _CANCELLED:\n            self._ended[name] = outcome\n",
            ),
        ),
        ("tests/engine/test_runs.py",),
    ),
    Mutant(
        1,
        "a slot that a failed commit leaves begins what only that commit would have let begin",
        f"{_ENGINE}/act.py",
        (
            (
                "        self.phase = Phase.WAITING\n        self._runs.let_go()\n",
                "        self._runs.let_go()\n",
            ),
        ),
        (_ACT_WORLD,),
    ),
    Mutant(
        6,
        "a retry that never arrived is not missed while what is here has no room",
        f"{_ENGINE}/act.py",
        (("return any(map(self._has_room, self._inbox))", "return bool(self._inbox)"),),
        (_ACT_WORLD,),
    ),
    Mutant(
        5,
        "a run that comes again is retried though its cancel is announced",
        f"{_ACT}/pipeline.py",
        (
            (
                "                self._hand.cancels.note(command.queue, command.id, cancelled)\n",
                "                pass\n",
            ),
        ),
        (_CONTROL,),
    ),
    Mutant(
        4,
        "what cancels lies behind the command of the same event",
        f"{_CORE}/routing.py",
        (("found[:0] = written", "found += written"),),
        ("tests/core/test_routing.py",),
    ),
    Mutant(
        5,
        "keys that rest for their throttle are forgotten by a takeover",
        f"{_ACT}/in_hand.py",
        (
            (
                "for queue, row in keys if row.blocked is Blocked.DRAINING]",
                "for queue, row in keys if row.blocked is Blocked.DRAINING and not row.is_resting]",
            ),
        ),
        (_CONTROL, "tests/act/test_histories.py"),
    ),
    Mutant(
        6,
        "what waits in a way that its flow's declaration knows no longer is taken as it is",
        f"{_CORRELATION}/waits.py",
        (("        return (row.shape or self.flow.shape) != self.shape", "        return False"),),
        ("tests/correlation/test_redeclared.py",),
    ),
    Mutant(
        5,
        "retries of a paused flow stay in the window of their tier, before those of other flows",
        f"{_ACT}/in_hand.py",
        (("elif is_stopped and self._parking.may_be_aside(work):", "elif False:"),),
        (_PAUSE,),
    ),
    Mutant(
        5,
        "what a pause finds ready stays in the window of its tier",
        f"{_ACT}/requests.py",
        (("            self._hand.stop_flow(flow)\n", "            pass\n"),),
        (_PAUSE,),
    ),
    Mutant(
        5,
        "parked retries of a paused flow take the room of other flows' commands",
        f"{_ACT}/keys.py",
        (("        if topic in self._tiers:\n", "        if topic == self._tiers:\n"),),
        (_PAUSE,),
    ),
    Mutant(
        4,
        "a retry that was put aside runs behind later commands of its key",
        f"{_ACT}/parking.py",
        (("self._keys.park_before(name, work.record)", "self._keys.park(name, work.record)"),),
        (_PAUSE, "tests/act/test_histories.py"),
    ),
    Mutant(
        6,
        "what a pause has put aside is forgotten by a takeover",
        f"{_ACT}/parking.py",
        (
            (
                "            if row.is_aside:\n                self._add(name)\n",
                "            pass\n",
            ),
        ),
        (_PAUSE, "tests/act/test_histories.py"),
    ),
    Mutant(
        9,
        "a paused flow's retries are parked without bound",
        f"{_ACT}/parking.py",
        (
            (
                "if not self._is_retry(work) or self._keys.retries >= self._spec.parked_max:",
                "if not self._is_retry(work):",
            ),
        ),
        (_PAUSE,),
    ),
    Mutant(
        9,
        "all that a pause has put aside comes back at once",
        f"{_ACT}/parking.py",
        (
            (
                "not is_stopped and self._ready.count(flow) < self._spec.window_max",
                "not is_stopped",
            ),
        ),
        (_PAUSE,),
    ),
    Mutant(
        5,
        "what rests waits as long as a throttle wanted that was taken back",
        f"{_ACT}/turns.py",
        (("        if free_us > most_us:", "        if False:"),),
        (_CONTROL,),
    ),
    Mutant(
        5,
        "a throttle is forgotten by a takeover",
        f"{_ACT}/turns.py",
        (("self._state.write(THROTTLE + queue, _TIME.pack(free_us))", "pass"),),
        (_CONTROL,),
    ),
    Mutant(
        6,
        "a command that counts for its rate limit is limited by itself after a takeover",
        f"{_ACT}/turns.py",
        (("        if row.last == name:\n            return True\n", ""),),
        (_CONTROL, _CONTROL_MODEL),
    ),
    Mutant(
        6,
        "a command that is passed over while it is parked keeps its place in the accounts",
        f"{_ACT}/in_hand.py",
        (
            (
                "        if work.is_parked:\n            self._settle(record, fate)\n",
                "        if work.is_parked:\n            pass\n",
            ),
        ),
        (_CONTROL, "tests/act/test_histories.py"),
    ),
    Mutant(
        4,
        "what was published otherwise is overtaken by what is written as it is sent",
        f"{_CORE}/_native_writing.pxi",
        (
            (
                "        self._look(publish)\n        slot = self._slot(topic, partition)\n",
                "        slot = self._slot(topic, partition)\n",
            ),
        ),
        (_WIRE_OUTPUT,),
    ),
    Mutant(
        2,
        "what a step has written that was given up is sent with the next",
        f"{_CORE}/task.py",
        (("            self.output.begin()\n", "            pass\n"),),
        (_WIRE_OUTPUT,),
        is_of_half=True,
    ),
    Mutant(
        4,
        "what is written already and fits no batch is sent behind the rest",
        f"{_ENGINE}/transaction.py",
        (
            (
                "[*chain.from_iterable(one.records() for one in wire[index:]), *items]",
                "[*items, *chain.from_iterable(one.records() for one in wire[index:])]",
            ),
        ),
        (_TRANSACTION,),
    ),
    Mutant(
        6,
        "an event that cancels is taken for a command by the compiled router",
        f"{_CORE}/routing.py",
        (
            (
                "if IS_COMPILED and routes.is_by_type and not cancels:",
                "if IS_COMPILED and routes.is_by_type:",
            ),
        ),
        ("tests/core/test_routing.py",),
        is_of_half=True,
    ),
    Mutant(
        9,
        "a thousand commands that end without a run end one within the other",
        f"{_ACT}/in_hand.py",
        (("        if self._is_going_on:\n", "        if False:\n"),),
        (_CONTROL,),
    ),
    Mutant(
        4,
        "an index of an element that was split is another one's",
        f"{_CORE}/pieces.py",
        (("Piece(event.id, index, count,", "Piece(event.id, count - 1 - index, count,"),),
        (_PIECES,),
    ),
    Mutant(
        6,
        "the number of elements that a command carries is one too many",
        f"{_CORE}/pieces.py",
        (("    count = len(elements)\n", "    count = len(elements) + 1\n"),),
        (_PIECES,),
    ),
    Mutant(
        6,
        "a row that comes lets nothing go on",
        f"{_LOOKUP}/pipeline.py",
        (("                queue.release(key)\n", "                pass\n"),),
        (_LOOKUPS, _LOOKED_UP),
    ),
    Mutant(
        6,
        "a tombstone leaves the row",
        f"{_LOOKUP}/pipeline.py",
        (
            (
                "        self._state.write(row_of(table, key), row)\n",
                (
                    "        if row is not None:\n"
                    "            self._state.write(row_of(table, key), row)\n"
                ),
            ),
        ),
        ("tests/lookup/test_lookup.py", _LOOKUPS),
    ),
    Mutant(
        5,
        "a row is missing before all that was written has been read",
        f"{_LOOKUP}/pipeline.py",
        (("self._expire(min(now_ms, caught_up_ms))", "self._expire(now_ms)"),),
        (_LOOKUPS, _LOOKED_UP),
    ),
    Mutant(
        5,
        "a table that is looked up again goes on where it was, without its rows",
        f"{_ENGINE}/lookups.py",
        (("        await self._read_anew()\n", ""),),
        (_LOOKED_UP,),
    ),
    Mutant(
        6,
        "rows that were left when a table is looked up again stay, whatever has become of them",
        f"{_LOOKUP}/pipeline.py",
        (("for row, _ in list(self._state.scan(*rows_of(table))):", "for row, _ in ():"),),
        ("tests/lookup/test_lookup.py",),
    ),
    Mutant(
        5,
        "an event is looked at before its tables are read",
        f"{_ENGINE}/lookups.py",
        (("is_early = self._is_loading and", "is_early = False and"),),
        (_LOOKED_UP,),
    ),
    Mutant(
        5,
        "an event is looked at before the worker has read its global tables",
        f"{_ENGINE}/lookups.py",
        (("*await self._global_partitions()]\n", "]\n"),),
        (_IN_FULL,),
    ),
    Mutant(
        5,
        "a row of a global table is missing before the worker has read it",
        f"{_ENGINE}/lookups.py",
        (("return list(dict.fromkeys((*own, *await self._global_partitions())))", "return own"),),
        (_IN_FULL,),
    ),
    Mutant(
        6,
        "nobody is told of a row that comes to a global table",
        f"{_ENGINE}/global_tables.py",
        (("            listener(topic, keys)\n", "            pass\n"),),
        (_IN_FULL,),
    ),
    Mutant(
        6,
        "what came to a global table before a crash is not let go after it",
        f"{_LOOKUP}/pipeline.py",
        (
            (
                "            self._arrivals.look_at_all()\n",
                "            self._arrivals.looked(None)\n",
            ),
        ),
        (_GLOBAL, _LOOKUPS),
    ),
    Mutant(
        6,
        "at its deadline an event is given up whose row has come",
        f"{_LOOKUP}/queue.py",
        (("        elif is_there:\n", "        elif False:\n"),),
        (_GLOBAL,),
    ),
    Mutant(
        6,
        "of two partitions that have a key the one that is read last holds",
        f"{_LOOKUP}/global_table.py",
        (("elif (at_ms, partition) < (before.at_ms, before.partition):", "elif False:"),),
        (_GLOBAL, _IN_FULL),
    ),
    Mutant(
        6,
        "a deleted row of a global table is there again, from another partition",
        f"{_LOOKUP}/global_table.py",
        (("        changes[DELETED + key] = value\n", "        pass\n"),),
        (_GLOBAL, _IN_FULL),
    ),
    Mutant(
        7,
        "the commands of all elements have one id",
        f"{_CORE}/trigger.py",
        (("more = more if piece is None else (str(piece.index),)", "more = ()"),),
        (_PIECES,),
    ),
    Mutant(
        9,
        "as many events wait for rows as like to",
        f"{_LOOKUP}/queue.py",
        (("if self._flow.row.held >= most:", "if False:"),),
        (_LOOKUPS,),
    ),
    Mutant(
        10,
        "an event goes to those that gather its pieces however large it is",
        f"{_CORE}/trigger.py",
        (("            if not fits(told, feed.bytes_max):\n", "            if not told.topic:\n"),),
        ("tests/core/test_sizes.py",),
    ),
    Mutant(
        10,
        "a dead letter is written whole, though its topic does not take it",
        f"{_CORE}/sizes.py",
        (("    if fits(whole, bytes_max):\n", "    if whole.headers:\n"),),
        ("tests/core/test_sizes.py",),
    ),
    Mutant(
        10,
        "a task tries for ever to write what a topic does not take",
        f"{_ENGINE}/task.py",
        (("        return self._too_large >= _TOO_LARGE_TRIES\n", "        return False\n"),),
        ("tests/simulation/test_refusals.py",),
    ),
    Mutant(
        9,
        "a step writes whatever comes of its batches",
        f"{_CORE}/task.py",
        (("        return self.written_bytes >= WRITTEN_BYTES_MAX\n", "        return False\n"),),
        (_FULL_STEPS,),
    ),
    Mutant(
        9,
        "a row lets as many events go in one step as wait for it",
        f"{_LOOKUP}/queue.py",
        (
            (
                "        while queue.leaving and not step.is_full:\n",
                "        while queue.leaving:\n",
            ),
        ),
        (_FULL_STEPS,),
    ),
    Mutant(
        4,
        "what comes behind a row is read before all that waited has gone on with it",
        f"{_LOOKUP}/pipeline.py",
        (
            (
                "        while not self._step.is_full and self._expire(AT_ONCE):\n",
                "        while False:\n",
            ),
        ),
        (_FULL_STEPS,),
    ),
    Mutant(
        6,
        "an event whose time is over does without the row that is there",
        f"{_LOOKUP}/queue.py",
        (("        elif is_there:\n", "        elif False:\n"),),
        (_FULL_STEPS,),
    ),
    Mutant(
        6,
        "what a full step leaves of its batch counts as read",
        f"{_CORE}/task_pipeline.py",
        (("next_offset = record.offset\n", "next_offset += 0\n"),),
        (_FULL_STEPS,),
    ),
    Mutant(
        6,
        "what a step has left unread is dropped by its task",
        f"{_ENGINE}/task.py",
        (("            self._inbox.appendleft(rest)\n", "            del rest\n"),),
        ("tests/simulation/test_full_steps.py",),
    ),
    Mutant(
        6,
        "of two events that an absence waits behind, the later one's silence is not told",
        f"{_CORRELATION}/collecting.py",
        (
            (
                (
                    "        self._drop_postponed(row, others)\n"
                    "        self._waits.postpone(row, arrival)\n"
                ),
                "        self._waits.settle(arrival, Fate.STALE)\n",
            ),
        ),
        (_RULES,),
    ),
    Mutant(
        5,
        "an absence waits behind an event that was followed in time",
        f"{_CORRELATION}/collecting.py",
        (("if _is_before(head, arrival)]", "if False]"),),
        (_RULES,),
    ),
    Mutant(
        10,
        "a number with an exponent that no decimal has stops a partition",
        f"{_CORE}/exact.py",
        (("    except ArithmeticError:\n", "    except TypeError:\n"),),
        ("tests/core/test_pointer.py",),
    ),
    Mutant(
        6,
        "events that wait for a flow that is gone are not told",
        f"{_CORRELATION}/rows.py",
        (("if row.held and flow not in flows}", "if row.open < 0 and flow not in flows}"),),
        ("tests/observe/test_waits.py",),
    ),
    Mutant(
        6,
        "a step whose earlier attempt is done after all does not count",
        f"{_SAGA}/machine.py",
        (("if not is_last and not self._is_earlier(", "if not is_last or not self._is_earlier("),),
        (_SAGA_RULES,),
    ),
    Mutant(
        6,
        "a step whose earlier attempt was done while another was out counts as failed",
        f"{_SAGA}/machine.py",
        (("elif state.kept is not None:", "elif False:"),),
        (_SAGA_RULES,),
    ),
    Mutant(
        6,
        "a compensation from before its step was done counts",
        f"{_SAGA}/machine.py",
        (("range(state.undo_first, state.undo_attempt)", "range(1, state.undo_attempt)"),),
        (_SAGA_RULES,),
    ),
)
