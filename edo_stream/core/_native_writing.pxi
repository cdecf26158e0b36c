# Writing: records as batches have them.


cdef enum:
    _PLACES_MAX = 32
    _SPARES_MAX = 8
    _SPARE_BYTES = 1024 * 1024

cdef uint8_t *_spares[_SPARES_MAX]
"""Buffers of writers that are done with, each of ``_SPARE_BYTES``: new ones take them over."""
cdef int _spares_count = 0


def by_place(publish not None):
    """Records by the topic and partition that they are for; the first of each in their order."""
    cdef dict found = {}
    cdef list items = None
    cdef PyObject *topics[_PLACES_MAX]  # Of the first places, each kept alive by ``found``.
    cdef PyObject *partitions[_PLACES_MAX]
    cdef PyObject *lists[_PLACES_MAX]
    cdef int count = 0, i
    for item in publish:
        if type(item) is not Publish:
            raise TypeError("no record to publish")
        topic = _field(item, _ITEM_TOPIC, "topic")
        partition = _field(item, _ITEM_PARTITION, "partition")
        for i in range(count):
            if partitions[i] == <PyObject *>partition and topics[i] == <PyObject *>topic:
                items = <list>lists[i]
                break
        else:
            place = (topic, partition)
            items = found.setdefault(place, [])
            if count < _PLACES_MAX and not items:
                topics[count] = <PyObject *>topic
                partitions[count] = <PyObject *>partition
                lists[count] = <PyObject *>items
                count += 1
        items.append(item)
    return found


@cython.final
cdef class RecordsWriter:
    """Records of one batch, as the format has them behind its header, before compression."""

    cdef uint8_t *_buffer
    cdef Py_ssize_t _size, _room
    cdef int _views
    cdef readonly int count
    cdef readonly int64_t first_ms, max_ms

    def __cinit__(self):
        global _spares_count
        if _spares_count:
            _spares_count -= 1
            self._buffer = _spares[_spares_count]
            self._room = _SPARE_BYTES
        else:
            self._room = 64 * 1024
            self._buffer = <uint8_t *>malloc(<size_t>self._room)
            if self._buffer is NULL:
                raise MemoryError
        self.first_ms = self.max_ms = -1

    def __dealloc__(self):
        global _spares_count
        if self._room == _SPARE_BYTES and _spares_count < _SPARES_MAX:
            _spares[_spares_count] = self._buffer
            _spares_count += 1
        else:
            free(self._buffer)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if PyBuffer_FillInfo(view, self, self._buffer, self._size, 1, flags) == 0:
            self._views += 1

    def __releasebuffer__(self, Py_buffer *view):
        self._views -= 1

    @property
    def size(self):
        """Bytes so far."""
        return self._size

    cdef int _reserve(self, Py_ssize_t more) except -1:
        cdef uint8_t *grown
        cdef Py_ssize_t room = self._room
        # Somebody looks at what was written, and at where it is.
        _require(self._views == 0, "a batch that is being read takes no more")
        if self._size + more <= room:
            return 0
        while room < self._size + more:
            room *= 2
        grown = <uint8_t *>realloc(self._buffer, <size_t>room)
        if grown is NULL:
            raise MemoryError
        self._buffer = grown
        self._room = room
        return 0

    cdef bint _add(self, key, value, headers, int64_t timestamp_ms, Py_ssize_t bytes_max) except -1:
        """Append a record, unless that would be too much; the first always fits."""
        cdef bytes wire
        cdef Py_ssize_t key_size = -1, value_size = -1
        cdef const char *key_at = NULL
        cdef const char *value_at = NULL
        cdef int64_t headers_count
        if type(headers) is WireHeaders:
            wire = (<WireHeaders>headers).wire
            headers_count = (<WireHeaders>headers)._count
        elif headers:
            wire = _wire_of(headers)
            headers_count = len(headers)
        else:
            wire = b""
            headers_count = 0
        if key is not None:
            key_at, key_size = PyBytes_AS_STRING(<bytes?>key), PyBytes_GET_SIZE(key)
        if value is not None:
            value_at, value_size = PyBytes_AS_STRING(<bytes?>value), PyBytes_GET_SIZE(value)
        return self._put(
            key_at, key_size, value_at, value_size, PyBytes_AS_STRING(wire),
            PyBytes_GET_SIZE(wire), headers_count, timestamp_ms, bytes_max,
        )

    cdef bint _put(
        self, const char *key, Py_ssize_t key_size, const char *value, Py_ssize_t value_size,
        const char *wire, Py_ssize_t wire_size, int64_t headers_count, int64_t timestamp_ms,
        Py_ssize_t bytes_max,
    ) except -1:  # fmt: skip
        """The same, of what is somewhere; a size of -1: there is none."""
        cdef int64_t delta_ms = timestamp_ms - self.first_ms if self.count else 0
        cdef uint8_t *at
        cdef Py_ssize_t body = (
            1 + _varint_size(delta_ms) + _varint_size(self.count) + _varint_size(key_size)
            + max(key_size, 0) + _varint_size(value_size) + max(value_size, 0)
            + _varint_size(headers_count) + wire_size
        )
        if self.count and self._size + body + 5 > bytes_max:
            return False
        self._reserve(body + 10)
        at = _put_varint(self._buffer + self._size, body)
        at[0] = 0
        at = _put_varint(at + 1, delta_ms)
        at = _put_varint(at, self.count)
        at = _put_varint(at, key_size)
        if key_size > 0:
            memcpy(at, key, <size_t>key_size)
            at += key_size
        at = _put_varint(at, value_size)
        if value_size > 0:
            memcpy(at, value, <size_t>value_size)
            at += value_size
        at = _put_varint(at, headers_count)
        memcpy(at, wire, <size_t>wire_size)
        at += wire_size
        self._size = at - self._buffer
        if self.count == 0:
            self.first_ms = self.max_ms = timestamp_ms
        elif timestamp_ms > self.max_ms:
            self.max_ms = timestamp_ms
        self.count += 1
        return True

    def adopt(self, WireRecords records not None):
        """Begin with records that are in this form already; nobody else has them any more."""
        cdef RecordsWriter other = records._writer
        _require(self.count == 0, "a batch that has begun adopts nothing")
        _require(self._views == 0 and other._views == 0, "a batch that is being read stays")
        self._buffer, other._buffer = other._buffer, self._buffer
        self._room, other._room = other._room, self._room
        self._size, other._size = other._size, 0
        self.count, other.count = other.count, 0
        self.first_ms, self.max_ms = other.first_ms, other.max_ms
        other.first_ms = other.max_ms = -1

    def fill(self, items, Py_ssize_t start, Py_ssize_t bytes_max):
        """Take records from ``start`` on while they fit; the index of the first that did not."""
        cdef Py_ssize_t index, end = len(items)
        for index in range(start, end):
            item = items[index]
            if type(item) is not Publish:
                raise TypeError("no record to publish")
            if not self._add(
                _field(item, _ITEM_KEY, "key"),
                _field(item, _ITEM_VALUE, "value"),
                _field(item, _ITEM_HEADERS, "headers"),
                _field(item, _ITEM_TIMESTAMP_MS, "timestamp_ms"),
                bytes_max,
            ):
                return index
        return end

    def fill_rows(self, items, Py_ssize_t start, int64_t timestamp_ms, Py_ssize_t bytes_max):
        """The same of rows, keys and values, all of one time."""
        cdef Py_ssize_t index, end = len(items)
        for index in range(start, end):
            key, value = items[index]
            if not self._add(key, value, None, timestamp_ms, bytes_max):
                return index
        return end

    def view(self):
        """What was written, where it is; nothing more is taken while there is a view of it."""
        return memoryview(self)


cdef bytes _wire_of(headers):
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t name_size
    cdef const char *text
    cdef uint8_t *buffer
    cdef uint8_t *at
    for name, value in headers:
        size += 4 * len(name) + (0 if value is None else len(value)) + 20
    buffer = <uint8_t *>malloc(<size_t>(size + 1))
    if buffer is NULL:
        raise MemoryError
    try:
        at = buffer
        for name, value in headers:
            text = PyUnicode_AsUTF8AndSize(name, &name_size)
            if value is None:
                at = _put_varint(at, name_size)
                memcpy(at, text, <size_t>name_size)
                at = _put_varint(at + name_size, -1)
            else:
                at = _put_pair(at, text, name_size, PyBytes_AS_STRING(<bytes?>value), PyBytes_GET_SIZE(value))
        return PyBytes_FromStringAndSize(<const char *>buffer, at - buffer)
    finally:
        free(buffer)


cdef enum:
    #: As much as fits a batch of the default size, with its header.
    _RUN_BYTES = 890_000
    _SLOTS = 256
    _SLOTS_USED_MAX = 128


@cython.final
cdef class WireRecords:
    """Records of one step for one partition, as a batch has them."""

    cdef readonly str topic
    cdef readonly int64_t partition
    cdef RecordsWriter _writer

    def __len__(self):
        return self._writer.count

    @property
    def size_bytes(self):
        """As they are in a batch, before compression."""
        return self._writer._size

    def records(self):
        """What they are, one by one."""
        cdef RecordsWriter writer = self._writer
        return [
            Publish(self.topic, self.partition, record.key, record.value, record.headers, record.timestamp)
            for record in read_records(
                self.topic, self.partition, writer.view(), writer.count, 0, writer.first_ms, -1, 0
            )
        ]


@cython.final
cdef class WireOutput:
    """What a step publishes of plain events, written to where it is sent from.

    Records for a partition stay in their order: what was published otherwise meanwhile, as a
    :class:`Publish` of the step, is taken over, if it is for one to which plain events lead. Once
    one for a partition is left to the step, all that come later are: so what is here comes first.
    """

    cdef list _runs
    cdef PyObject *_topics[_SLOTS]  # Of those in use, each kept alive by ``_names``.
    cdef int64_t _partitions[_SLOTS]
    cdef PyObject *_writers[_SLOTS]  # Kept alive by ``_runs``; none: it is published otherwise.
    cdef int _used
    cdef list _names
    cdef set _known  # Where plain events ever led to.
    cdef Py_ssize_t _seen
    cdef readonly int64_t count, size_bytes
    """Of the step so far: records, and bytes of their keys and values."""

    def __cinit__(self):
        self._known = set()
        self.begin()

    def begin(self):
        """Begin anew: nothing is published."""
        self._runs, self._names = [], []
        memset(self._topics, 0, sizeof(self._topics))
        self._used = 0
        self._seen = 0
        self.count = self.size_bytes = 0

    def take(self):
        """What was written, which is the caller's now."""
        cdef list runs = self._runs
        self.begin()
        return runs

    cdef int _slot(self, str topic, int64_t partition) except -1:
        """Where a partition has its place, which may be free."""
        cdef size_t spread = <size_t>hash(topic) + <size_t>partition * <size_t>31
        cdef int slot = <int>(spread % <size_t>_SLOTS)
        while self._topics[slot] is not NULL:
            if self._partitions[slot] == partition:
                if self._topics[slot] is <PyObject *>topic or <object>self._topics[slot] == topic:
                    break
            slot = (slot + 1) % _SLOTS
        return slot

    cdef int _use(self, int slot, str topic, int64_t partition) except -1:
        self._names.append(topic)
        self._topics[slot] = <PyObject *>topic
        self._partitions[slot] = partition
        self._writers[slot] = NULL
        self._used += 1
        return 0

    cdef int _open(self, int slot, str topic, int64_t partition) except -1:
        """Begin a run of records."""
        cdef WireRecords run = WireRecords.__new__(WireRecords)
        run.topic, run.partition, run._writer = topic, partition, RecordsWriter()
        self._runs.append(run)
        self._writers[slot] = <PyObject *>run._writer
        return 0

    cdef int _look(self, list publish) except -1:
        """Take over what was published otherwise since the last look, where it has its place."""
        cdef Py_ssize_t index, kept = self._seen
        if kept == len(publish):
            return 0
        for index in range(kept, len(publish)):
            item = publish[index]
            if not self._takes_over(item):
                publish[kept] = item
                kept += 1
        del publish[kept:]
        self._seen = kept
        return 0

    cdef bint _takes_over(self, item) except -1:
        cdef str topic
        cdef int64_t partition
        cdef int slot
        if type(item) is not Publish:
            raise TypeError("no record to publish")
        topic, partition = _field(item, _ITEM_TOPIC, "topic"), _field(item, _ITEM_PARTITION, "partition")
        if self._used >= _SLOTS_USED_MAX:
            # Too many to keep apart: none has its place here any more.
            memset(self._writers, 0, sizeof(self._writers))
            return False
        slot = self._slot(topic, partition)
        if self._topics[slot] is NULL:
            self._use(slot, topic, partition)
            if (topic, partition) in self._known:
                self._open(slot, topic, partition)
        if self._writers[slot] is NULL:
            return False
        key, value = _field(item, _ITEM_KEY, "key"), _field(item, _ITEM_VALUE, "value")
        headers = _field(item, _ITEM_HEADERS, "headers")
        timestamp_ms = _field(item, _ITEM_TIMESTAMP_MS, "timestamp_ms")
        while not (<RecordsWriter><object>self._writers[slot])._add(
            key, value, headers, timestamp_ms, _RUN_BYTES
        ):
            self._open(slot, topic, partition)
        self.count += 1
        self.size_bytes += (0 if key is None else len(key)) + (0 if value is None else len(value))
        return True

    cdef bint _put(
        self, list publish, str topic, int64_t partition, bytes key, const char *value,
        Py_ssize_t size, Pairs *headers, int64_t timestamp_ms,
    ) except -1:  # fmt: skip
        """Write a record, unless it has to be published otherwise; see :func:`_publish`."""
        cdef int slot
        cdef const char *wire = NULL
        cdef Py_ssize_t wire_size = 0, count = 0
        self._look(publish)
        slot = self._slot(topic, partition)
        if self._topics[slot] is NULL:
            if self._used >= _SLOTS_USED_MAX:
                return False
            self._use(slot, topic, partition)
            self._open(slot, topic, partition)
        if self._writers[slot] is NULL:
            # For this step; with the next it has its place.
            self._known.add((topic, partition))
            return False
        if headers is not NULL:
            wire, wire_size = <const char *>headers.wire, headers.at - headers.wire
            count = headers.count
        while not (<RecordsWriter><object>self._writers[slot])._put(
            PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), value, size, wire, wire_size, count,
            timestamp_ms, _RUN_BYTES,
        ):
            self._open(slot, topic, partition)
        self.count += 1
        self.size_bytes += PyBytes_GET_SIZE(key) + max(size, 0)
        return True


cdef int _publish(
    list publish, WireOutput output, str topic, int64_t partition, bytes key, const char *value,
    Py_ssize_t size, Pairs *headers, int64_t timestamp_ms, data=None,
) except -1:  # fmt: skip
    """Publish a record: to where it is sent from, if there is such a thing.

    A size of -1: it has no value; ``data`` is the value, where it is an object already. Headers
    may be ``NULL``: none.
    """
    if output is not None and output._put(
        publish, topic, partition, key, value, size, headers, timestamp_ms
    ):
        return 0
    if data is None and size >= 0:
        data = PyBytes_FromStringAndSize(value, size)
    told = () if headers is NULL else _ended(headers)
    publish.append(Publish(topic, partition, key, data, told, timestamp_ms))
    return 0


cdef int _publish_data(
    list publish, WireOutput output, str topic, int64_t partition, bytes key, data, Pairs *headers,
    int64_t timestamp_ms,
) except -1:  # fmt: skip
    """The same, of an event's data as it came."""
    cdef const char *at = NULL
    cdef Py_ssize_t size = -1
    if data is not None:
        at, size = PyBytes_AS_STRING(<bytes?>data), PyBytes_GET_SIZE(data)
    return _publish(publish, output, topic, partition, key, at, size, headers, timestamp_ms, data)
