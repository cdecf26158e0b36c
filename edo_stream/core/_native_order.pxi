# -- keys in the order of their numbers
#
# Included by _native.pyx, before the plain way.

cdef Py_ssize_t _ROW_NEXT = edo_offset(SequenceRow, b"next")
cdef Py_ssize_t _ROW_TOUCHED_MS = edo_offset(SequenceRow, b"touched_ms")
cdef Py_ssize_t _ROW_HELD = edo_offset(SequenceRow, b"held")
cdef Py_ssize_t _ROW_DUE_MS = edo_offset(SequenceRow, b"due_ms")
cdef Py_ssize_t _ROW_FILLED = edo_offset(SequenceRow, b"filled")
cdef Py_ssize_t _SOURCE_HELD = edo_offset(SourceRow, b"held")

cdef int64_t _NUMBER_MAX = 0x7FFFFFFFFFFFFFFF

cdef enum:
    # What an event is to its key.
    _NOT_PLAIN = 0  # A matter of Python's.
    _NEXT = 1  # The next in line, for which nothing waits.
    _AWAITED = 2  # The next in line of a key that has held events.
    _LATER = 3  # One whose turn has not come.


@cython.final
cdef class PlainOrder:
    """Holds events that come before their turn, and lets them go on behind the one they wait for.

    It does what :class:`edo_stream.core.resequencer.Resequencer` does while there is room, no
    number is given up or used up, and all that has its turn was held in this step. It is asked
    about one event at a time: first what it is, then whether it can be had, then to take it.
    """

    cdef bytes _prefix, _held, _timer
    cdef dict _rows, _dirty, _numbers, _fresh
    cdef set _set, _cleared
    cdef int64_t _idle_ms, _gap_timeout_ms, _per_key_max, _per_partition_max, _bytes_max
    # Of the event that is asked about: its name, row and number, and what its key waits with.
    cdef bytes _key, _name
    cdef object _row
    cdef int64_t _number
    cdef dict _waiting
    cdef list _ready

    def __init__(self, bytes prefix not None, rows, held, timers, bounds, gap_timeout_ms):
        """``rows``, ``held`` and ``timers`` are the pages of the caches that Python has of them.

        ``bounds``: after how long a key is idle; how many events wait of a key, and of all keys;
        the bytes of one. Without ``gap_timeout_ms`` events wait for ever.
        """
        self._prefix = prefix
        self._rows, self._dirty = rows
        self._held, self._numbers, self._fresh = held
        self._timer, self._set, self._cleared = timers
        self._idle_ms, self._per_key_max, self._per_partition_max, self._bytes_max = bounds
        self._gap_timeout_ms = -1 if gap_timeout_ms is None else gap_timeout_ms

    cdef int turn_of(self, event, bytes key, int64_t stream_ms) except -1:
        """What an event is to its key."""
        cdef PyObject *found
        cdef int turn = _NEXT
        position = _field(event, _AT_POSITION, "position")
        if type(position) is not int or not 0 <= position < _NUMBER_MAX:
            return _NOT_PLAIN
        self._name = self._prefix + key
        found = PyDict_GetItem(self._rows, self._name)
        if found is NULL or type(<object>found) is not SequenceRow:
            return _NOT_PLAIN
        self._row = <object>found
        if _field(self._row, _ROW_FILLED, "filled"):
            return _NOT_PLAIN
        next_number = _field(self._row, _ROW_NEXT, "next")
        if position != next_number:
            if position < next_number:
                return _NOT_PLAIN
            turn = _LATER
        held = _field(self._row, _ROW_HELD, "held")
        if not held:
            touched_ms = _field(self._row, _ROW_TOUCHED_MS, "touched_ms")
            if stream_ms - <int64_t>touched_ms > self._idle_ms:
                return _NOT_PLAIN
        if held or turn == _LATER:
            found = PyDict_GetItem(self._numbers, self._name)
            # Events of a key that waits since an earlier step may be on disk alone.
            if (found is NULL) == bool(held):
                return _NOT_PLAIN
            self._waiting = None if found is NULL else <dict>found
            if turn == _NEXT:
                turn = _AWAITED
        self._key = key
        self._number = position
        return turn

    cdef bint can_hold(self, record, source) except -1:
        """Whether there is room for the event, and none with its number."""
        cdef int64_t size, held
        if type(record) is not FetchedRecord:
            return False
        if self._waiting is not None and self._number in self._waiting:
            return False
        # The key is in the row's key and in the record.
        size = (<FetchedRecord>record).counted()
        if size < 0 or size + PyBytes_GET_SIZE(self._key) > self._bytes_max:
            return False
        held = _field(self._row, _ROW_HELD, "held")
        if held >= self._per_key_max:
            return False
        held = _field(source, _SOURCE_HELD, "held")
        return held < self._per_partition_max

    cdef int hold(self, record, event, source, int64_t now_ms, int64_t stream_ms) except -1:
        """Keep the event until its turn."""
        if self._waiting is None:
            self._waiting = self._numbers[self._name] = {}
        self._waiting[self._number] = now_ms
        self._fresh[self._held_row(self._number)] = (now_ms, record, event)
        self._count(source, 1)
        if _field(self._row, _ROW_DUE_MS, "due_ms") is None:
            self._rearm()
        return self._touch(stream_ms)

    cdef bint can_release(
        self, ResultHeaders headers, Py_ssize_t bytes_max, list offsets, int64_t now_ms
    ) except -1:
        """Whether all that has its turn behind the event can go on as well."""
        cdef PyObject *found
        cdef FetchedRecord record
        cdef Pairs wire
        cdef Py_ssize_t place
        cdef int64_t number = self._number + 1
        cdef bytes row
        self._ready = []
        while number in self._waiting:
            row = self._held_row(number)
            found = PyDict_GetItem(self._fresh, row)
            if found is NULL or number == _NUMBER_MAX:
                return False
            _, held, event = <tuple>found
            if type(held) is not FetchedRecord or type(event) is not Event:
                return False
            record = held
            if record.timestamp < 0 or record.timestamp > now_ms:
                return False
            place = _place_of(offsets, record.offset)
            if place < 0:
                return False
            if not headers._put(&wire, record.offset, event, False):
                return False
            if not _fits(event, _counted(&wire), bytes_max):
                return False
            self._ready.append((row, number, place, record, event))
            number += 1
        return True

    cdef list ready(self):
        """What can go on: row, number, place among the offsets, record and event."""
        cdef list ready = self._ready
        self._ready = None
        return ready

    cdef int advance(self, list ready, source, int64_t stream_ms) except -1:
        """Go on behind the event, and behind what went on with it."""
        cdef bytes row
        _put_field(self._row, _ROW_NEXT, "next", self._number + 1 + len(ready))
        for row, number, _, _, _ in ready:
            del self._fresh[row]
            del self._waiting[number]
        if not self._waiting:
            del self._numbers[self._name]
        self._count(source, -len(ready))
        self._rearm()
        return self._touch(stream_ms)

    cdef int pass_by(self, int64_t stream_ms) except -1:
        """Go on behind the event, for which nothing waits."""
        _put_field(self._row, _ROW_NEXT, "next", self._number + 1)
        return self._touch(stream_ms)

    cdef int _touch(self, int64_t stream_ms) except -1:
        _put_field(self._row, _ROW_TOUCHED_MS, "touched_ms", stream_ms)
        self._dirty[self._name] = None
        return 0

    cdef int _count(self, source, int64_t more) except -1:
        """Count events that wait: of the key, and of the source."""
        cdef int64_t held = _field(self._row, _ROW_HELD, "held")
        _put_field(self._row, _ROW_HELD, "held", held + more)
        held = _field(source, _SOURCE_HELD, "held")
        _put_field(source, _SOURCE_HELD, "held", held + more)
        return 0

    cdef int _rearm(self) except -1:
        """Set the gap timer by the event that waits longest, if any may time out."""
        cdef int64_t first_ms = -1, held_at_ms
        due_ms = None
        if self._waiting and self._gap_timeout_ms >= 0:
            for since_ms in self._waiting.values():
                held_at_ms = since_ms
                if first_ms < 0 or held_at_ms < first_ms:
                    first_ms = held_at_ms
            due_ms = first_ms + self._gap_timeout_ms
        before_ms = _field(self._row, _ROW_DUE_MS, "due_ms")
        if due_ms != before_ms:
            if before_ms is not None:
                _turn_timer(self._cleared, self._set, _timer_row(self._timer, before_ms, self._name))
            if due_ms is not None:
                _turn_timer(self._set, self._cleared, _timer_row(self._timer, due_ms, self._name))
            _put_field(self._row, _ROW_DUE_MS, "due_ms", due_ms)
        return 0

    cdef bytes _held_row(self, int64_t number):
        """See :mod:`edo_stream.core.held`."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self._key)
        cdef Py_ssize_t start = PyBytes_GET_SIZE(self._held) + PyBytes_GET_SIZE(self._prefix)
        cdef bytes row = PyBytes_FromStringAndSize(NULL, start + 4 + size + 8)
        cdef uint8_t *at = _put_of(<uint8_t *>PyBytes_AS_STRING(row), self._held)
        at = _put_of(_put_big(_put_of(at, self._prefix), <uint64_t>size, 4), self._key)
        _put_big(at, <uint64_t>number, 8)
        return row


cdef Py_ssize_t _place_of(list offsets, int64_t offset) except -2:
    """Where an offset is in offsets that ascend; -1: nowhere."""
    cdef Py_ssize_t low = 0, high = len(offsets), middle
    while low < high:
        middle = (low + high) // 2
        if <int64_t>offsets[middle] < offset:
            low = middle + 1
        else:
            high = middle
    return low if low < len(offsets) and <int64_t>offsets[low] == offset else -1
