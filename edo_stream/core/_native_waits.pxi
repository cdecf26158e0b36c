# -- waits for named inputs, for sequences of them, and for a number of events
#
# Included by _native.pyx, behind the plain way.

cdef Py_ssize_t _WAIT_BORN = edo_offset(WaitRow, b"born")
cdef Py_ssize_t _WAIT_TOUCHED_MS = edo_offset(WaitRow, b"touched_ms")
cdef Py_ssize_t _WAIT_PHASE = edo_offset(WaitRow, b"phase")
cdef Py_ssize_t _WAIT_RUN = edo_offset(WaitRow, b"run")
cdef Py_ssize_t _WAIT_OPENED_MS = edo_offset(WaitRow, b"opened_ms")
cdef Py_ssize_t _WAIT_UNTIL_MS = edo_offset(WaitRow, b"until_ms")
cdef Py_ssize_t _WAIT_DUE_MS = edo_offset(WaitRow, b"due_ms")
cdef Py_ssize_t _WAIT_HEADS = edo_offset(WaitRow, b"heads")
cdef Py_ssize_t _WAIT_HELD = edo_offset(WaitRow, b"held")
cdef Py_ssize_t _WAIT_SIZE_BYTES = edo_offset(WaitRow, b"size_bytes")
cdef Py_ssize_t _WAIT_COUNTED = edo_offset(WaitRow, b"counted")
cdef Py_ssize_t _WAIT_EXPECT = edo_offset(WaitRow, b"expect")
cdef Py_ssize_t _WAIT_MEMBERS = edo_offset(WaitRow, b"members")
cdef Py_ssize_t _WAIT_ENDED = edo_offset(WaitRow, b"ended")
cdef Py_ssize_t _WAIT_ENDED_MS = edo_offset(WaitRow, b"ended_ms")
cdef Py_ssize_t _WAIT_COMPLETED_BY = edo_offset(WaitRow, b"completed_by")
cdef Py_ssize_t _WAIT_POSTPONED = edo_offset(WaitRow, b"postponed")
cdef Py_ssize_t _WAIT_BURSTS = edo_offset(WaitRow, b"bursts")
cdef Py_ssize_t _WAIT_SHAPE = edo_offset(WaitRow, b"shape")
cdef Py_ssize_t _HEAD_INPUT = edo_offset(Head, b"input")
cdef Py_ssize_t _HEAD_AT_MS = edo_offset(Head, b"at_ms")
cdef Py_ssize_t _HEAD_OFFSET = edo_offset(Head, b"offset")
cdef Py_ssize_t _HEAD_SIZE_BYTES = edo_offset(Head, b"size_bytes")
cdef Py_ssize_t _HEAD_PAYLOAD = edo_offset(Head, b"payload")
cdef Py_ssize_t _EVENT_OFFSET = edo_offset(HeldEvent, b"offset")
cdef Py_ssize_t _EVENT_PAYLOAD = edo_offset(HeldEvent, b"payload")


ctypedef struct JoinedSpans:
    # What is read of a :class:`~edo_stream.core.correlation.joined.Joined`; none: ``at`` is NULL.
    Span flow
    Span input
    Span id
    Span source
    Span type
    Span position
    Span data
    Span subject
    Span correlation
    Span member
    bint is_json
    int64_t time_ms  # -1: none.


cdef int64_t _big(Bytes at, int size) noexcept nogil:
    cdef int64_t number = 0
    cdef int i
    for i in range(size):
        number = number << 8 | at[i]
    return number


cdef bint _next_text(Bytes *at, Bytes end, Span *found, bint is_bytes) noexcept nogil:
    """A text, or bytes, or nothing; ``False`` for any other value."""
    cdef uint8_t kind
    cdef int width = 0
    found.at = NULL
    found.size = 0
    if at[0] >= end:
        return False
    kind = at[0][0]
    at[0] += 1
    if kind == 0xC0:
        return True
    if kind & 0xE0 == 0xA0 and not is_bytes:
        found.size = kind & 0x1F
    else:
        if kind == (0xC4 if is_bytes else 0xD9):
            width = 1
        elif kind == (0xC5 if is_bytes else 0xDA):
            width = 2
        elif kind == (0xC6 if is_bytes else 0xDB):
            width = 4
        if width == 0 or end - at[0] < width:
            return False
        found.size = _big(at[0], width)
        at[0] += width
    if found.size > end - at[0]:
        return False
    found.at = at[0]
    at[0] += found.size
    return True


cdef bint _next_whole(Bytes *at, Bytes end, int64_t *number) noexcept nogil:
    """A number of at least 0, or nothing: -1; ``False`` for any other value."""
    cdef uint8_t kind
    cdef int width
    if at[0] >= end:
        return False
    kind = at[0][0]
    at[0] += 1
    number[0] = -1
    if kind == 0xC0:
        return True
    if kind < 0x80:
        number[0] = kind
        return True
    if kind < 0xCC or kind > 0xCF:
        return False
    width = 1 << (kind - 0xCC)
    if end - at[0] < width:
        return False
    number[0] = _big(at[0], width)
    at[0] += width
    return number[0] >= 0


cdef bint _is_quotable(Span text) noexcept nogil:
    """Whether JSON has a text as it is, between quotes."""
    return edo_as_is_end(text.at, text.at + text.size) == text.at + text.size


cdef bint _read_joined(bytes value, bytes last, JoinedSpans *found) noexcept:
    """Whether an event is one that its result may have as it is; ``last`` is what others lack."""
    cdef Bytes at = <Bytes>PyBytes_AS_STRING(value)
    cdef Bytes end = at + PyBytes_GET_SIZE(value)
    cdef Bytes lacks = <Bytes>PyBytes_AS_STRING(last)
    cdef Span rest
    cdef int count
    if at == end:
        return False
    if at[0] & 0xF0 == 0x90:
        count = at[0] & 0x0F
        at += 1
    elif at[0] == 0xDC and end - at >= 3:
        count = <int>_big(at + 1, 2)
        at += 3
    else:
        return False
    if count < 12 or count - 12 > PyBytes_GET_SIZE(last):
        return False
    if not (
        _next_text(&at, end, &found.flow, False) and _next_text(&at, end, &found.input, False)
        and _next_text(&at, end, &found.id, False) and _next_text(&at, end, &found.source, False)
        and _next_text(&at, end, &found.type, False) and _next_text(&at, end, &found.position, False)
        and _next_text(&at, end, &found.data, True)
    ):
        return False
    if at >= end or at[0] & 0xFE != 0xC2:
        return False
    found.is_json = at[0] == 0xC3
    at += 1
    if not (
        _next_whole(&at, end, &found.time_ms) and _next_text(&at, end, &found.subject, False)
        and _next_text(&at, end, &found.correlation, False) and _next_text(&at, end, &rest, False)
    ):
        return False
    count -= 12
    found.member.at = NULL
    found.member.size = 0
    if count:
        if not _next_text(&at, end, &found.member, False):
            return False
        count -= 1
        lacks += 1
    return (
        # Nothing else that only some kinds of waits have.
        _is_same(at, end - at, <const char *>lacks, count)
        and found.flow.at is not NULL and found.input.at is not NULL
        and found.id.at is not NULL and found.source.at is not NULL
        and found.type.at is not NULL and found.position.at is not NULL
        and found.is_json == (found.data.at is not NULL)
        and found.time_ms < _TIMES_END_MS
        and _is_quotable(found.id) and _is_quotable(found.source) and _is_quotable(found.type)
        and _is_quotable(found.position) and _is_quotable(found.subject)
        and _is_quotable(found.correlation) and _is_quotable(found.member) and _is_quotable(rest)
    )


cdef int64_t _TIMES_END_MS = 253402300800000
cdef enum:
    _EVENT_BYTES = 160  # As ``joined.size_of`` counts what an event has besides its texts.
    _NO_JSON_BYTES = 4
    _NAME_BYTES = 200
    _HEADS_MAX = 16


cdef int64_t _size_of(JoinedSpans *joined) noexcept nogil:
    """See :func:`edo_stream.core.correlation.joined.size_of`."""
    cdef int64_t size = _EVENT_BYTES + joined.id.size + joined.source.size + joined.type.size
    size += joined.position.size + joined.subject.size + joined.member.size + joined.data.size
    return size if joined.is_json else size + _NO_JSON_BYTES


cdef inline uint8_t *_put_padded(uint8_t *at, int64_t number, int digits) noexcept nogil:
    cdef int i
    for i in range(digits - 1, -1, -1):
        at[i] = <uint8_t>(0x30 + number % 10)
        number //= 10
    return at + digits


cdef uint8_t *_put_time(uint8_t *at, int64_t time_ms) noexcept nogil:
    """RFC 3339 text of a time from 1970 to 9999, of 24 bytes."""
    cdef int64_t days = time_ms // 86400000, rest = time_ms % 86400000
    cdef int64_t shifted = days + 719468
    cdef int64_t era = shifted // 146097
    cdef int64_t in_era = shifted - era * 146097
    cdef int64_t year = (in_era - in_era // 1460 + in_era // 36524 - in_era // 146096) // 365
    cdef int64_t in_year = in_era - (365 * year + year // 4 - year // 100)
    cdef int64_t shifted_month = (5 * in_year + 2) // 153
    cdef int64_t month = shifted_month + (3 if shifted_month < 10 else -9)
    at = _put_padded(at, year + era * 400 + (1 if month <= 2 else 0), 4)
    at[0] = 0x2D
    at = _put_padded(at + 1, month, 2)
    at[0] = 0x2D
    at = _put_padded(at + 1, in_year - (153 * shifted_month + 2) // 5 + 1, 2)
    at[0] = 0x54
    at = _put_padded(at + 1, rest // 3600000, 2)
    at[0] = 0x3A
    at = _put_padded(at + 1, rest // 60000 % 60, 2)
    at[0] = 0x3A
    at = _put_padded(at + 1, rest // 1000 % 60, 2)
    at[0] = 0x2E
    at = _put_padded(at + 1, rest % 1000, 3)
    at[0] = 0x5A
    return at + 1


def time_text_of(int64_t time_ms):
    """As :func:`edo_stream.core.headers.time_text`, of a time from 1970 to 9999."""
    cdef uint8_t text[_TIME_BYTES]
    _require(0 <= time_ms < _TIMES_END_MS, "a time beyond those of four-digit years")
    _put_time(text, time_ms)
    return PyBytes_FromStringAndSize(<const char *>text, _TIME_BYTES)


cdef inline uint8_t *_put_raw(uint8_t *at, const char *text) noexcept nogil:
    cdef size_t size = strlen(text)
    memcpy(at, text, size)
    return at + size


cdef inline uint8_t *_put_span(uint8_t *at, Span span) noexcept nogil:
    memcpy(at, span.at, <size_t>span.size)
    return at + span.size


cdef uint8_t *_put_shown(uint8_t *at, JoinedSpans *joined) noexcept nogil:
    """See :func:`edo_stream.core.correlation.joined.shown`."""
    at = _put_span(_put_raw(at, b'{"id":"'), joined.id)
    at = _put_span(_put_raw(at, b'","source":"'), joined.source)
    at = _put_span(_put_raw(at, b'","type":"'), joined.type)
    at = _put_span(_put_raw(at, b'","position":"'), joined.position)
    if joined.subject.at is not NULL:
        at = _put_span(_put_raw(at, b'","subject":"'), joined.subject)
    if joined.time_ms >= 0:
        at = _put_time(_put_raw(at, b'","time":"'), joined.time_ms)
    if joined.member.at is not NULL:
        at = _put_span(_put_raw(at, b'","member":"'), joined.member)
    at = _put_raw(at, b'","data":')
    at = _put_raw(at, b"null") if joined.data.at is NULL else _put_span(at, joined.data)
    at[0] = 0x7D
    return at + 1


cdef enum:
    _OPEN = 2
    _OVER = 3

cdef enum:
    _ALL = 0
    _IN_ORDER = 1
    _COUNT = 2

WAITS_FOR_ALL, WAITS_IN_ORDER, WAITS_FOR_COUNT = _ALL, _IN_ORDER, _COUNT

cdef enum:
    _FIRED_MAX = 64  # Events of a result.

ctypedef struct Coming:
    # An event that comes to its wait.
    int64_t offset, at_ms, size_bytes
    int64_t stream_ms  # With it.
    int number  # Which input it is of.

ctypedef struct Firing:
    # The events of a result, in its order.
    int count
    JoinedSpans events[_FIRED_MAX]
    int inputs[_FIRED_MAX]
    int64_t offsets[_FIRED_MAX]
    Py_ssize_t room  # Bytes of all payloads.


cdef inline void _begin_firing(Firing *firing) noexcept nogil:
    firing.count = 0
    firing.room = 0


cdef inline JoinedSpans *_add_fired(
    Firing *firing, bytes payload, int number, int64_t offset
) noexcept:  # fmt: skip
    """One more event; what it says is for the caller to fill in."""
    cdef int at = firing.count
    firing.inputs[at] = number
    firing.offsets[at] = offset
    firing.room += PyBytes_GET_SIZE(payload)
    firing.count += 1
    return &firing.events[at]


@cython.final
cdef class PlainWait:
    """One flow that waits for named inputs, for a sequence of them, for so many events or a list.

    See :class:`edo_stream.core.correlation.collecting.Collecting`, and of sequences
    :class:`edo_stream.core.correlation.ordered.InOrder`.
    """

    cdef object _waits
    cdef bytes _prefix, _timer
    cdef set _set, _cleared
    cdef list _names, _texts
    cdef bint _is_loaded, _is_changed
    cdef int64_t _open, _held, _fired  # Of its counts, while records are taken.
    cdef Py_ssize_t _needed
    cdef int64_t _within_ms, _grace_ms, _idle_ms, _open_max, _events_max, _held_bytes_max, _shape, _own
    cdef bint _is_event_time, _is_once
    cdef int _kind
    cdef frozenset _members
    cdef bytes _id_start, _birth, _name, _source, _type, _place
    cdef str _topic
    cdef int64_t _partitions
    cdef Py_ssize_t _bytes_max

    def __init__(self, waits, timers, kind, names, needed, members, times_ms, bounds, ways, says):
        """``needed`` is how many events complete a wait, by what the ``kind`` waits for.

        ``members``: which there are to be, of a count; ``None``: any.

        ``times_ms``: within, grace and idle; ``bounds``: open waits, events, bytes; ``ways``:
        whether its clock is that of the events, and it fires once.

        ``says`` is what its results say of themselves: what their ids derive from, where a row
        was born or nothing, the flow, source, type, where its events lie, topic, partitions, and
        how many bytes a result may have without its frame.
        """
        self._waits = waits
        self._shape = waits.shape
        self._prefix, self._timer, self._set, self._cleared = timers
        self._names = [name.encode() for name in names]
        self._texts = list(names)
        self._needed = needed
        self._members = None if members is None else frozenset([one.encode() for one in members])
        self._within_ms, self._grace_ms, self._idle_ms = times_ms
        self._open_max, self._events_max, self._held_bytes_max = bounds
        self._kind = kind
        self._is_event_time, self._is_once = ways
        (
            self._id_start, self._birth, self._name, self._source, self._type, self._place,
            self._topic, self._partitions, self._bytes_max,
        ) = says  # fmt: skip
        _require(len(self._id_start) <= _PLACE_BYTES, "a start of ids that is too long")
        _require(self._birth is None or len(self._birth) <= 32, "a birth that is too long")
        _require(self._needed > 0, "a wait that is complete without any event")
        _require(
            self._kind == _COUNT or self._needed <= _HEADS_MAX,
            "more events than a wait has room for",
        )
        _require(len(self._place) <= _PLACE_BYTES, "a place that is too long")

    cdef int _load(self) except -1:
        """Read what is counted; nobody else counts until it is stored."""
        flow = self._waits.flow
        self._open, self._held, self._fired = flow.open, flow.held, flow.fired
        # Of rows whose events are held as the flow says now; see :class:`Waits`.
        self._own = 0 if <int64_t>flow.shape == self._shape else self._shape
        self._is_loaded = True
        self._is_changed = False
        return 0

    cdef int _store(self) except -1:
        self._is_loaded = False
        if self._is_changed:
            flow = self._waits.flow
            flow.open, flow.held, flow.fired = self._open, self._held, self._fired
            self._waits.note_changed()
        return 0

    cdef int _set_timer(self, int64_t due_ms, bytes key) except -1:
        return _turn_timer(self._set, self._cleared, _timer_row(self._timer, due_ms, key))

    cdef int _clear_timer(self, int64_t due_ms, bytes key) except -1:
        return _turn_timer(self._cleared, self._set, _timer_row(self._timer, due_ms, key))

    cdef int _number_of(self, Span name) except -2:
        """Which input it is; -1: none."""
        cdef Py_ssize_t i
        cdef bytes known
        for i in range(len(self._names)):
            known = self._names[i]
            if _is_same(name.at, name.size, PyBytes_AS_STRING(known), PyBytes_GET_SIZE(known)):
                return <int>i
        return -1

    cdef void _put_id(self, uint8_t *out, bytes key, int64_t run, int64_t born) noexcept:
        cdef uint8_t message[2 * _PLACE_BYTES + 2 * _NAME_BYTES + 64]
        cdef uint8_t hashed[20]
        cdef uint32_t state[5]
        cdef Bytes of = <Bytes>PyBytes_AS_STRING(key)
        cdef uint8_t *at = _put_of(message, self._id_start)
        cdef Py_ssize_t i
        for i in range(PyBytes_GET_SIZE(key)):
            at[0] = <uint8_t>_HEX[of[i] >> 4]
            at[1] = <uint8_t>_HEX[of[i] & 15]
            at += 2
        at[0] = 0x1F
        at = _put_decimal(at + 1, <uint64_t>run)
        if self._birth is not None:
            at[0] = 0x1F
            at = _put_decimal(_put_of(at + 1, self._birth), <uint64_t>born)
        state[0], state[1], state[2] = 0x67452301, 0xEFCDAB89, 0x98BADCFE
        state[3], state[4] = 0x10325476, 0xC3D2E1F0
        edo_sha1_rest(state, 0, message, <size_t>(at - message), hashed)
        _put_uuid(out, hashed)

    cdef Py_ssize_t _publish(
        self, bytes key, row, int64_t opened_ms, int64_t now_ms, int by, JoinedSpans *cause,
        Firing *firing, list publish, WireOutput output,
    ) except -2:  # fmt: skip
        """Publish what a wait that is complete leads to.

        Bytes of its key and value; -1 if something of it is not plain, or it is too large.
        """
        cdef int64_t run = <int64_t>_field(row, _WAIT_RUN, "run") + 1
        cdef int64_t born = _field(row, _WAIT_BORN, "born")
        cdef Py_ssize_t room = firing.room, size
        cdef Pairs headers
        cdef bytes name
        cdef uint8_t *buffer
        cdef uint8_t *at
        if not self._put_headers(&headers, key, born, run, now_ms, cause, firing):
            return -1
        # Its payload has the id of the event that completes it once; it is written twice.
        room += 600 + PyBytes_GET_SIZE(key) + PyBytes_GET_SIZE(self._name) + cause.id.size
        for name in self._names:
            room += 3 * PyBytes_GET_SIZE(name) + 20
        buffer = _scratch(room + 300 * firing.count)
        at = _put_of(_put_raw(buffer, b'{"flow":"'), self._name)
        at = _put_of(_put_raw(at, b'","key":"'), key)
        at = _put_decimal(_put_raw(at, b'","firing":'), <uint64_t>run)
        at = _put_raw(at, b',"reason":"complete","complete":true,"completed_by":"')
        at = _put_of(at, <bytes>self._names[by])
        at = _put_span(_put_raw(at, b'","completed_by_id":"'), cause.id)
        at = _put_time(_put_raw(at, b'","opened":"'), opened_ms)
        at = _put_time(
            _put_raw(at, b'","deadline":"'), _field(row, _WAIT_UNTIL_MS, "until_ms")
        )
        at = self._put_count(at, firing) if self._kind == _COUNT else self._put_named(at, firing)
        at = _put_raw(at, b"}}")
        size = PyBytes_GET_SIZE(key) + (at - buffer)
        if size + _counted(&headers) > self._bytes_max:
            return -1
        _publish(
            publish, output, self._topic, _partition_of(key, self._partitions), key,
            <const char *>buffer, at - buffer, &headers, now_ms,
        )
        return size

    cdef uint8_t *_put_named(self, uint8_t *at, Firing *firing) except NULL:
        """Which inputs are missing, and an event of each that is there."""
        cdef bint is_missing, has_any = False
        cdef Py_ssize_t i
        cdef int j
        at = _put_raw(at, b'","missing":[')
        for i in range(len(self._names)):
            is_missing = True
            for j in range(firing.count):
                if firing.inputs[j] == i:
                    is_missing = False
            if is_missing:
                at = _put_of(_put_raw(at, b',"' if has_any else b'"'), <bytes>self._names[i])
                at = _put_raw(at, b'"')
                has_any = True
        at = _put_raw(at, b'],"inputs":{')
        for j in range(firing.count):
            at = _put_of(
                _put_raw(at, b',"' if j else b'"'), <bytes>self._names[firing.inputs[j]]
            )
            at = _put_shown(_put_raw(at, b'":'), &firing.events[j])
        return at

    cdef uint8_t *_put_count(self, uint8_t *at, Firing *firing) except NULL:
        """How many there are, and the events of each input."""
        cdef bint has_any
        cdef Py_ssize_t i
        cdef int j
        at = _put_decimal(_put_raw(at, b'","count":'), <uint64_t>firing.count)
        at = _put_decimal(_put_raw(at, b',"expected":'), <uint64_t>self._needed)
        if self._members is not None:
            at = _put_raw(at, b',"missing":[]')
        at = _put_raw(at, b',"inputs":{')
        for i in range(len(self._names)):
            at = _put_of(_put_raw(at, b',"' if i else b'"'), <bytes>self._names[i])
            at = _put_raw(at, b'":[')
            has_any = False
            for j in range(firing.count):
                if firing.inputs[j] == i:
                    at = _put_shown(_put_raw(at, b"," if has_any else b""), &firing.events[j])
                    has_any = True
            at = _put_raw(at, b"]")
        return at

    cdef bint _put_headers(
        self, Pairs *pairs, bytes key, int64_t born, int64_t run, int64_t now_ms,
        JoinedSpans *cause, Firing *firing,
    ) except -1:  # fmt: skip
        cdef JoinedSpans *first = &firing.events[0]
        cdef uint8_t text[_PLACE_BYTES + _FIRED_MAX * 2 * 21]
        cdef Span correlation = first.correlation if first.correlation.size else first.id
        _begin(pairs)
        try:
            _add(pairs, b"ce_specversion", b"1.0", 3)
            self._put_id(text, key, run, born)
            _add(pairs, b"ce_id", <const char *>text, 36)
            _add_bytes(pairs, b"ce_source", self._source)
            _add_bytes(pairs, b"ce_type", self._type)
            _put_time(text, now_ms)
            _add(pairs, b"ce_time", <const char *>text, _TIME_BYTES)
            _add_bytes(pairs, b"ce_subject", key)
            _add_bytes(pairs, b"edo-flow", self._name)
            _add(
                pairs,
                b"edo-of",
                <const char *>text,
                _put_ranges(_put_of(text, self._place), firing.offsets, firing.count) - text,
            )
            _add(pairs, b"content-type", b"application/json", 16)
            _add(pairs, b"ce_correlationid", <const char *>correlation.at, correlation.size)
            _add(pairs, b"ce_causationid", <const char *>cause.id.at, cause.id.size)
        except _TooLong:
            return False
        return True


cdef uint8_t *_put_ranges(uint8_t *at, int64_t *offsets, int count) noexcept nogil:
    """See :func:`edo_stream.core.correlation.outlet.ranges`; sorts them."""
    cdef int i, j
    cdef int64_t moved, first
    for i in range(1, count):
        moved = offsets[i]
        j = i
        while j and offsets[j - 1] > moved:
            offsets[j] = offsets[j - 1]
            j -= 1
        offsets[j] = moved
    i = 0
    while i < count:
        if i:
            at[0] = 0x2C
            at += 1
        first = offsets[i]
        i += 1
        while i < count and offsets[i] == offsets[i - 1] + 1:
            i += 1
        at = _put_decimal(at, <uint64_t>first)
        if offsets[i - 1] != first:
            at[0] = 0x2D
            at = _put_decimal(at + 1, <uint64_t>offsets[i - 1])
    return at


cdef void _put_uuid(uint8_t *out, uint8_t *hashed) noexcept:
    """The 36 characters of a UUID of version 5."""
    cdef int i
    hashed[6] = hashed[6] & 0x0F | 0x50
    hashed[8] = hashed[8] & 0x3F | 0x80
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            out[0] = 0x2D
            out += 1
        out[0] = <uint8_t>_HEX[hashed[i] >> 4]
        out[1] = <uint8_t>_HEX[hashed[i] & 15]
        out += 2


@cython.final
cdef class PlainWaits:
    """Takes events that open a wait, are one more in it, or complete it.

    It does what :meth:`edo_stream.core.correlation.pipeline.JoinPipeline._read` does for them; at
    the first event that is not such a one it stops, before it has changed anything for it.
    """

    cdef dict _flows, _rows, _dirty, _fresh
    cdef object _row_of, _events, _held, _emitted
    cdef bytes _last
    cdef PlainWait _recent
    cdef readonly int64_t stream_ms, written_bytes
    # While records are taken:
    cdef list _offsets, _fates, _settled, _publish
    cdef WireOutput _output
    cdef int64_t _now_ms, _ahead_ms, _read_from

    def __init__(self, dict flows not None, rows, row_of, events, held, emitted, last):
        """``flows`` are :class:`PlainWait` by the flow's name; ``rows`` those decoded, and which
        have changed; ``row_of`` reads one; ``events`` are those in rows of their own. ``last`` is
        how the fields that plain events lack are packed, a byte each, from the member on.
        """
        self._flows = flows
        self._rows, self._dirty = rows
        self._row_of = row_of
        self._events = events
        self._fresh = events.pages()
        self._held = held
        self._emitted = emitted
        self._last = last

    def take(
        self,
        records,
        Py_ssize_t start,
        int64_t now_ms,
        int64_t stream_ms,
        int64_t ahead_ms,
        list offsets not None,
        list fates not None,
        int64_t last_offset,
        list settled not None,
        int64_t read_from,
        list publish not None,
        WireOutput output,
        Py_ssize_t written_max,
        int64_t written_bytes_max,
    ):
        """Take events from ``start`` on; the index of the first that was not taken.

        Stream time as it is then is in ``stream_ms``, and how much was written in
        ``written_bytes``. What was held below ``read_from`` is noted in ``settled``. With as much
        as ``written_max`` records in ``publish`` and ``output``, or ``written_bytes_max`` written
        here, it ends.
        """
        cdef Py_ssize_t index = start, end = len(records)
        self.stream_ms = stream_ms
        self.written_bytes = 0
        self._offsets, self._fates, self._settled = offsets, fates, settled
        self._publish, self._output = publish, output
        self._now_ms, self._ahead_ms, self._read_from = now_ms, ahead_ms, read_from
        if output is not None:
            output._look(publish)
        for wait in self._flows.values():
            (<PlainWait?>wait)._is_loaded = False
        try:
            while index < end:
                if not self._take(records[index], last_offset):
                    break
                last_offset = <int64_t>offsets[len(offsets) - 1]
                index += 1
                if self.written_bytes >= written_bytes_max:
                    break
                if len(publish) + (0 if output is None else output.count) >= written_max:
                    break
        finally:
            self._offsets = self._fates = self._settled = self._publish = self._output = None
        for wait in self._flows.values():
            if (<PlainWait>wait)._is_loaded:
                (<PlainWait>wait)._store()
        return index

    cdef PlainWait _wait_of(self, Span flow):
        """The flow of a name; ``None``: it is not of those."""
        cdef PyObject *found
        cdef PlainWait wait = self._recent
        if wait is None or not _is_same(
            flow.at, flow.size, PyBytes_AS_STRING(wait._name), PyBytes_GET_SIZE(wait._name)
        ):
            found = PyDict_GetItem(self._flows, _bytes_of(flow))
            if found is NULL:
                return None
            wait = self._recent = <PlainWait>found
        if not wait._is_loaded:
            wait._load()
        return wait

    cdef bint _take(self, record, int64_t last_offset) except -1:
        cdef JoinedSpans joined
        cdef Coming come
        cdef PlainWait wait
        cdef PyObject *found
        cdef int64_t timestamp, touched_ms, held, phase = 0
        cdef bytes key, value, name
        if type(record) is FetchedRecord:
            timestamp = (<FetchedRecord>record).timestamp
            come.offset = (<FetchedRecord>record).offset
            key, value = (<FetchedRecord>record).key, (<FetchedRecord>record).value
        else:
            timestamp, come.offset = record.timestamp, record.offset
            key, value = record.key, record.value
        if key is None or value is None or not 0 < PyBytes_GET_SIZE(key) <= _NAME_BYTES:
            return False
        if come.offset <= last_offset or not _read_joined(value, self._last, &joined):
            return False
        if not _is_quotable(_span_of(key)):
            return False
        wait = self._wait_of(joined.flow)
        if wait is None:
            return False
        come.number = wait._number_of(joined.input)
        if come.number < 0:
            return False
        come.stream_ms = self.stream_ms
        if timestamp > come.stream_ms:
            come.stream_ms = max(come.stream_ms, min(timestamp, self._ahead_ms))
        come.at_ms = joined.time_ms if wait._is_event_time and joined.time_ms >= 0 else timestamp
        come.at_ms = min(come.at_ms, self._now_ms)
        if come.at_ms <= 0 or come.at_ms + wait._within_ms + wait._grace_ms >= _TIMES_END_MS:
            return False
        come.size_bytes = _size_of(&joined)
        name = wait._prefix + key
        found = PyDict_GetItem(self._rows, name)
        row = self._row_of(name) if found is NULL else <object>found
        if row is not None:
            if type(row) is not WaitRow:
                return False
            phase = _field(row, _WAIT_PHASE, "phase")
            if phase == 0 or phase == _OVER:
                touched_ms = _field(row, _WAIT_TOUCHED_MS, "touched_ms")
                if come.stream_ms - touched_ms > wait._idle_ms:
                    row = None
                    phase = 0
        if row is None:
            row = WaitRow(come.offset)
        held = _field(row, _WAIT_HELD, "held")
        if (
            (phase != _OPEN if held else phase != 0)
            or held and <int64_t>_field(row, _WAIT_SHAPE, "shape") != wait._own
            or _field(row, _WAIT_POSTPONED, "postponed") or _field(row, _WAIT_BURSTS, "bursts")
            or held >= wait._events_max
            or <int64_t>_field(row, _WAIT_SIZE_BYTES, "size_bytes") + come.size_bytes
            > wait._held_bytes_max
        ):
            return False
        if phase == 0 and (
            _field(row, _WAIT_DUE_MS, "due_ms") is not None or wait._open >= wait._open_max
        ):
            return False
        if wait._kind == _COUNT:
            return self._count(wait, row, key, name, value, &joined, &come)
        if wait._kind == _IN_ORDER:
            return self._follow(wait, row, key, name, value, &joined, &come)
        return self._collect(wait, row, key, name, value, &joined, &come)

    cdef bint _belongs(self, row, int64_t at_ms) except -1:
        """Whether an event is of the wait by its time, whose deadline and timer are set."""
        until_ms = _field(row, _WAIT_UNTIL_MS, "until_ms")
        cdef int64_t opened_ms = _field(row, _WAIT_OPENED_MS, "opened_ms")
        if until_ms is None or _field(row, _WAIT_DUE_MS, "due_ms") is None:
            return False
        return 0 < opened_ms <= at_ms <= <int64_t>until_ms < _TIMES_END_MS

    cdef int _open(self, PlainWait wait, row, bytes key, int64_t at_ms) except -1:
        cdef int64_t due_ms = at_ms + wait._within_ms + wait._grace_ms
        _put_field(row, _WAIT_PHASE, "phase", _OPEN)
        _put_field(row, _WAIT_OPENED_MS, "opened_ms", at_ms)
        _put_field(row, _WAIT_UNTIL_MS, "until_ms", at_ms + wait._within_ms)
        _put_field(row, _WAIT_DUE_MS, "due_ms", due_ms)
        wait._open += 1
        wait._set_timer(due_ms, key)
        return 0

    cdef int _hold(
        self, PlainWait wait, row, bytes key, bytes name, bytes value, Coming *come
    ) except -1:  # fmt: skip
        """Keep an event, the first of its wait or one more; in the wait's row but for counts."""
        cdef int64_t held = _field(row, _WAIT_HELD, "held")
        cdef int64_t size = _field(row, _WAIT_SIZE_BYTES, "size_bytes")
        if held == 0:
            self._open(wait, row, key, come.at_ms)
        if wait._kind != _COUNT:
            (<list>_field(row, _WAIT_HEADS, "heads")).append(
                Head(wait._texts[come.number], come.at_ms, come.offset, come.size_bytes, value)
            )
        _put_field(row, _WAIT_HELD, "held", held + 1)
        _put_field(row, _WAIT_SIZE_BYTES, "size_bytes", size + come.size_bytes)
        wait._held += 1
        return self._keep(wait, name, row, come, self._held)

    cdef bint _fire(
        self, PlainWait wait, row, bytes key, int64_t opened_ms, JoinedSpans *cause, int number,
        Firing *firing,
    ) except -1:  # fmt: skip
        """Publish a result, unless something of it is not plain; count it, and say how it came."""
        cdef int64_t run = _field(row, _WAIT_RUN, "run")
        cdef Py_ssize_t size = wait._publish(
            key, row, opened_ms, self._now_ms, number, cause, firing, self._publish, self._output
        )
        if size < 0:
            return False
        self.written_bytes += size
        wait._fired += 1
        _put_field(row, _WAIT_RUN, "run", run + 1)
        _put_field(row, _WAIT_ENDED, "ended", "complete")
        _put_field(row, _WAIT_ENDED_MS, "ended_ms", self._now_ms)
        _put_field(row, _WAIT_COMPLETED_BY, "completed_by", wait._texts[number])
        return True

    cdef int _end(self, PlainWait wait, row, bytes key, int number) except -1:
        """Note that nothing is held any more of a wait that has fired."""
        cdef bint is_over = wait._is_once or wait._names[number] == b"deadline"
        wait._held -= <int64_t>_field(row, _WAIT_HELD, "held")
        _put_field(row, _WAIT_HELD, "held", 0)
        _put_field(row, _WAIT_SIZE_BYTES, "size_bytes", 0)
        _put_field(row, _WAIT_OPENED_MS, "opened_ms", 0)
        return self._rest(wait, row, key, is_over)

    cdef int _rest(self, PlainWait wait, row, bytes key, bint is_over) except -1:
        """Nothing waits any more."""
        wait._open -= 1
        wait._clear_timer(_field(row, _WAIT_DUE_MS, "due_ms"), key)
        _put_field(row, _WAIT_PHASE, "phase", _OVER if is_over else 0)
        _put_field(row, _WAIT_UNTIL_MS, "until_ms", None)
        _put_field(row, _WAIT_DUE_MS, "due_ms", None)
        return 0

    cdef int _keep(self, PlainWait wait, bytes name, row, Coming *come, fate) except -1:
        _put_field(row, _WAIT_TOUCHED_MS, "touched_ms", come.stream_ms)
        if <int64_t>_field(row, _WAIT_SHAPE, "shape") != wait._own:
            _put_field(row, _WAIT_SHAPE, "shape", wait._own)
        self._rows[name] = row
        self._dirty[name] = None
        self.stream_ms = come.stream_ms
        wait._is_changed = True
        self._offsets.append(come.offset)
        self._fates.append(fate)
        return 0

    cdef int _emit(
        self, PlainWait wait, bytes name, row, Coming *come, Firing *firing
    ) except -1:  # fmt: skip
        """Keep what has fired, and mark what went into it; its own comes first in the ledger."""
        cdef int i
        self._keep(wait, name, row, come, self._emitted)
        for i in range(firing.count):
            if firing.offsets[i] != come.offset:
                self._settle(firing.offsets[i])
        return 0

    cdef int _settle(self, int64_t offset) except -1:
        """Note that what was held is in a result; see :meth:`edo_stream.core.ledger.Ledger.mark`."""
        cdef list offsets = self._offsets
        cdef Py_ssize_t low = 0, high = len(offsets), middle
        if offset < self._read_from:
            self._settled.append((offset, self._emitted))
            return 0
        while low < high:
            middle = (low + high) >> 1
            if <int64_t>offsets[middle] < offset:
                low = middle + 1
            else:
                high = middle
        if low == len(offsets):
            offsets.append(offset)
            self._fates.append(self._emitted)
        else:
            self._fates[low] = self._emitted
        return 0

    # -- named inputs

    cdef bint _collect(
        self, PlainWait wait, row, bytes key, bytes name, bytes value, JoinedSpans *joined,
        Coming *come,
    ) except -1:  # fmt: skip
        """Take an event of a wait for named inputs; ``False``: it is none that is taken."""
        cdef list heads = _field(row, _WAIT_HEADS, "heads")
        cdef Py_ssize_t there = len(heads)
        cdef Firing firing
        if <int64_t>_field(row, _WAIT_HELD, "held") != there:
            return False
        if there:
            if not self._belongs(row, come.at_ms):
                return False
            if there + 1 >= wait._needed:
                if not self._fill(wait, heads, value, joined, come, &firing):
                    return False
                opened_ms = _field(row, _WAIT_OPENED_MS, "opened_ms")
                if not self._fire(wait, row, key, opened_ms, joined, come.number, &firing):
                    return False
                self._end(wait, row, key, come.number)
                self._emit(wait, name, row, come, &firing)
                heads.clear()
                return True
            for head in heads:
                if type(head) is not Head:
                    return False
                if _field(head, _HEAD_INPUT, "input") == wait._texts[come.number]:
                    return False
        self._hold(wait, row, key, name, value, come)
        return True

    cdef bint _fill(
        self, PlainWait wait, list heads, bytes value, JoinedSpans *joined, Coming *come,
        Firing *firing,
    ) except -1:  # fmt: skip
        """Gather the events of a wait that is complete, in the order of the inputs."""
        cdef JoinedSpans moved
        cdef int64_t offset
        cdef int number, i
        cdef bytes payload
        if len(heads) + 1 != wait._needed:
            return False
        _begin_firing(firing)
        _add_fired(firing, value, come.number, come.offset)[0] = joined[0]
        for head in heads:
            if type(head) is not Head:
                return False
            payload = _field(head, _HEAD_PAYLOAD, "payload")
            offset = _field(head, _HEAD_OFFSET, "offset")
            if offset < 0 or not _read_joined(payload, self._last, &moved):
                return False
            number = wait._number_of(moved.input)
            if number < 0:
                return False
            for i in range(firing.count):
                if firing.inputs[i] == number:
                    return False
            _add_fired(firing, payload, number, offset)
            i = firing.count - 1
            while i and firing.inputs[i - 1] > number:
                firing.events[i] = firing.events[i - 1]
                firing.inputs[i] = firing.inputs[i - 1]
                firing.offsets[i] = firing.offsets[i - 1]
                i -= 1
            firing.events[i] = moved
            firing.inputs[i] = number
            firing.offsets[i] = offset
        return True

    # -- a number of events

    cdef bint _count(
        self, PlainWait wait, row, bytes key, bytes name, bytes value, JoinedSpans *joined,
        Coming *come,
    ) except -1:  # fmt: skip
        """Take an event of a wait for so many; ``False``: it is none that is taken."""
        cdef int64_t held = _field(row, _WAIT_HELD, "held")
        cdef int64_t counted = _field(row, _WAIT_COUNTED, "counted")
        cdef PyObject *known = PyDict_GetItem(self._fresh, name)
        cdef dict fresh = {} if known is NULL else <dict?><object>known
        cdef bytes place
        cdef Firing firing
        if (
            len(<list>_field(row, _WAIT_HEADS, "heads")) or counted != held
            or _field(row, _WAIT_EXPECT, "expect") is not None
            or _field(row, _WAIT_MEMBERS, "members") is not None
        ):
            return False
        if held and not self._belongs(row, come.at_ms):
            return False
        if joined.member.at is NULL:
            if wait._members is not None:
                return False
            place = PyBytes_FromStringAndSize(NULL, 8)
            _put_big(<uint8_t *>PyBytes_AS_STRING(place), <uint64_t>come.offset, 8)
        else:
            place = _bytes_of(joined.member)
            if place in fresh or (wait._members is not None and place not in wait._members):
                return False
            # Where all are of this step, there is none of an earlier one.
            if held != len(fresh) and self._events.get(name, place) is not None:
                return False
        if held + 1 < wait._needed:
            fresh[place] = HeldEvent(come.at_ms, come.offset, come.size_bytes, value)
            self._fresh[name] = fresh
            _put_field(row, _WAIT_COUNTED, "counted", counted + 1)
            self._hold(wait, row, key, name, value, come)
            return True
        if held == 0 or held >= _FIRED_MAX:
            return False
        pieces = self._events.all(name)
        if len(pieces) != held:
            return False
        if not self._fill_count(wait, pieces, place, value, joined, come, &firing):
            return False
        opened_ms = _field(row, _WAIT_OPENED_MS, "opened_ms")
        if not self._fire(wait, row, key, opened_ms, joined, come.number, &firing):
            return False
        self._events.take_all(name)
        _put_field(row, _WAIT_COUNTED, "counted", 0)
        self._end(wait, row, key, come.number)
        self._emit(wait, name, row, come, &firing)
        return True

    cdef bint _fill_count(
        self, PlainWait wait, list pieces, bytes place, bytes value, JoinedSpans *joined,
        Coming *come, Firing *firing,
    ) except -1:  # fmt: skip
        """Gather the events of a wait that is complete, in the order of their places."""
        cdef JoinedSpans *added
        cdef int64_t offset
        cdef bytes payload
        cdef bint is_in = False
        _begin_firing(firing)
        for there, event in pieces:
            if not is_in and place < there:
                _add_fired(firing, value, come.number, come.offset)[0] = joined[0]
                is_in = True
            if type(event) is not HeldEvent:
                return False
            payload = _field(event, _EVENT_PAYLOAD, "payload")
            offset = _field(event, _EVENT_OFFSET, "offset")
            added = _add_fired(firing, payload, 0, offset)
            if offset < 0 or not _read_joined(payload, self._last, added):
                return False
            firing.inputs[firing.count - 1] = wait._number_of(added.input)
            if firing.inputs[firing.count - 1] < 0:
                return False
        if not is_in:
            _add_fired(firing, value, come.number, come.offset)[0] = joined[0]
        return True

    # -- sequences

    cdef bint _follow(
        self, PlainWait wait, row, bytes key, bytes name, bytes value, JoinedSpans *joined,
        Coming *come,
    ) except -1:  # fmt: skip
        """Take an event that is the latest of its wait; ``False``: it is none that is taken."""
        cdef Py_ssize_t places[_HEADS_MAX]
        cdef Firing firing
        cdef list heads = _field(row, _WAIT_HEADS, "heads")
        cdef Py_ssize_t i, there = len(heads)
        cdef int last = <int>wait._needed - 1, found = 0
        cdef int64_t first_ms = 0, held_ms, freed = 0, size, offset
        if <int64_t>_field(row, _WAIT_HELD, "held") != there or there >= _HEADS_MAX:
            return False
        for i in range(there):
            if type(heads[i]) is not Head:
                return False
            held_ms = _field(heads[i], _HEAD_AT_MS, "at_ms")
            # What others may follow is for Python to find.
            if held_ms > come.at_ms or (held_ms == come.at_ms and come.number != last):
                return False
            first_ms = held_ms if i == 0 else min(first_ms, held_ms)
        if there and not self._is_armed(wait, row, first_ms):
            return False
        if there and come.number == last:
            firing.events[last] = joined[0]
            found = self._chain(wait, heads, come.at_ms, &firing, places)
        if found < 0 or (found and wait._is_once and there > last):
            return False
        if not found:
            self._hold(wait, row, key, name, value, come)
            return True
        _begin_firing(&firing)  # Its events are there.
        for i in range(last):
            head = heads[places[i]]
            offset = _field(head, _HEAD_OFFSET, "offset")
            if offset < 0:
                return False
            _add_fired(&firing, <bytes>_field(head, _HEAD_PAYLOAD, "payload"), <int>i, offset)
            size = _field(head, _HEAD_SIZE_BYTES, "size_bytes")
            freed += size
        _add_fired(&firing, value, last, come.offset)
        opened_ms = _field(heads[places[0]], _HEAD_AT_MS, "at_ms")
        if not self._fire(wait, row, key, opened_ms, joined, last, &firing):
            return False
        heads[:] = [heads[i] for i in range(there) if not _is_among(places, last, i)]
        size = _field(row, _WAIT_SIZE_BYTES, "size_bytes")
        wait._held -= last
        _put_field(row, _WAIT_HELD, "held", there - last)
        _put_field(row, _WAIT_SIZE_BYTES, "size_bytes", size - freed)
        _put_field(row, _WAIT_OPENED_MS, "opened_ms", opened_ms)
        if there == last:
            self._rest(wait, row, key, wait._is_once)
        else:
            self._rearm(wait, row, key, heads)
        self._emit(wait, name, row, come, &firing)
        return True

    cdef bint _is_armed(self, PlainWait wait, row, int64_t first_ms) except -1:
        """Whether a wait is as its oldest event has left it."""
        until_ms = _field(row, _WAIT_UNTIL_MS, "until_ms")
        due_ms = _field(row, _WAIT_DUE_MS, "due_ms")
        if first_ms <= 0 or until_ms is None or due_ms is None:
            return False
        return (
            <int64_t>_field(row, _WAIT_OPENED_MS, "opened_ms") == first_ms
            and <int64_t>until_ms == first_ms + wait._within_ms
            and <int64_t>due_ms == <int64_t>until_ms + wait._grace_ms
        )

    cdef int _chain(
        self, PlainWait wait, list heads, int64_t at_ms, Firing *firing, Py_ssize_t *places
    ) except -2:  # fmt: skip
        """The shortest sequence that ends with an event, the last of ``firing``.

        1: the others are filled in, and where among the heads they are; 0: there is none; -1: one
        of them is not plain. See :func:`edo_stream.core.correlation.ordered.shortest`.
        """
        cdef JoinedSpans *events = firing.events
        cdef Py_ssize_t i, j
        cdef JoinedSpans other
        cdef int64_t held_ms, held_at, best_ms, best_at, next_ms = at_ms
        for i in range(wait._needed - 2, -1, -1):
            places[i] = -1
            best_ms = best_at = -1
            for j in range(len(heads)):
                head = heads[j]
                if _field(head, _HEAD_INPUT, "input") != wait._texts[i]:
                    continue
                held_ms = _field(head, _HEAD_AT_MS, "at_ms")
                held_at = _field(head, _HEAD_OFFSET, "offset")
                if held_ms > next_ms or held_ms < best_ms:
                    continue
                if held_ms == best_ms and held_at < best_at:
                    continue
                if not _read_joined(
                    <bytes>_field(head, _HEAD_PAYLOAD, "payload"), self._last, &other
                ):
                    return -1
                # One event may be of two inputs; it does not follow itself.
                if held_ms == next_ms and _is_equal(other.position, events[i + 1].position):
                    continue
                best_ms, best_at, places[i] = held_ms, held_at, j
                events[i] = other
            if places[i] < 0:
                return 0
            next_ms = best_ms
        return at_ms - next_ms <= wait._within_ms

    cdef int _rearm(self, PlainWait wait, row, bytes key, list heads) except -1:
        """Set the timer by the oldest of the events that are left."""
        cdef int64_t first_ms = min([<int64_t>_field(head, _HEAD_AT_MS, "at_ms") for head in heads])
        cdef int64_t due_ms = first_ms + wait._within_ms + wait._grace_ms
        cdef int64_t was_ms = _field(row, _WAIT_DUE_MS, "due_ms")
        _put_field(row, _WAIT_OPENED_MS, "opened_ms", first_ms)
        _put_field(row, _WAIT_UNTIL_MS, "until_ms", first_ms + wait._within_ms)
        if due_ms != was_ms:
            wait._clear_timer(was_ms, key)
            wait._set_timer(due_ms, key)
            _put_field(row, _WAIT_DUE_MS, "due_ms", due_ms)
        return 0


cdef inline bint _is_among(Py_ssize_t *places, int count, Py_ssize_t place) noexcept nogil:
    cdef int i
    for i in range(count):
        if places[i] == place:
            return True
    return False


cdef inline Span _span_of(bytes text) noexcept:
    cdef Span span
    span.at = <Bytes>PyBytes_AS_STRING(text)
    span.size = PyBytes_GET_SIZE(text)
    return span
