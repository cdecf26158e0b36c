# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, nonecheck=False, infer_types=False
"""What nearly every event goes through, in C: reading, decoding, digests, headers, writing.

Theory of operation. Nothing here decides anything that Python does not decide as well: each
function does what a Python one beside it does, for the plain case only, and gives ``None`` (or
raises) for everything else, which Python then looks at from the start. So what is refused, and
in which words, is written once, in Python; what is plain is written twice and compared record by
record (``tests/core/test_native.py``). :mod:`edo_stream.core.native` chooses.

Bytes that come from outside are read by one cursor, which never goes beyond its end.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset, strlen

from edo_stream.core.correlation.rows import Head, HeldEvent, WaitRow
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event
from edo_stream.core.sequence import SequenceRow
from edo_stream.core.task import SourceRow

cdef extern from *:
    """
    static PyObject *edo_ascii(const char *at, Py_ssize_t size) {
        PyObject *text = PyUnicode_New(size, 127);
        if (text != NULL) memcpy(PyUnicode_1BYTE_DATA(text), at, (size_t)size);
        return text;
    }

    #include <structmember.h>
    /* Where instances have a field that is an object; -1 where that is not so. */
    static Py_ssize_t edo_offset(PyObject *type, const char *name) {
        Py_ssize_t offset = -1;
        PyObject *found = PyObject_GetAttrString(type, name);
        if (found == NULL) { PyErr_Clear(); return -1; }
        if (Py_TYPE(found) == &PyMemberDescr_Type) {
            PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
            if (member->type == T_OBJECT_EX) offset = member->offset;
        }
        Py_DECREF(found);
        return offset;
    }
    """
    object edo_ascii(const char *at, Py_ssize_t size)
    Py_ssize_t edo_offset(object type, const char *name)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

#: Raised with each change that Python beside it takes part in: another build is not used.
BUILD = 16

ctypedef const uint8_t *Bytes

ctypedef struct Span:
    Bytes at
    int64_t size

# -- fields of structs, without a question to their type


cdef inline object _field(object of, Py_ssize_t offset, str name):
    """A field of an instance of exactly the type that the offset is of."""
    cdef PyObject *found
    if offset > 0:
        found = (<PyObject **>(<char *><PyObject *>of + offset))[0]
        if found is not NULL:
            return <object>found
    return getattr(of, name)


cdef inline int _put_field(object of, Py_ssize_t offset, str name, object value) except -1:
    """Change such a field, to what the garbage collector need not know of."""
    cdef PyObject **place
    cdef PyObject *before
    if offset <= 0:
        setattr(of, name, value)
        return 0
    place = <PyObject **>(<char *><PyObject *>of + offset)
    before = place[0]
    Py_INCREF(value)
    place[0] = <PyObject *>value
    Py_XDECREF(before)
    return 0


cdef Py_ssize_t _AT_ID = edo_offset(Event, b"id")
cdef Py_ssize_t _AT_SOURCE = edo_offset(Event, b"source")
cdef Py_ssize_t _AT_TYPE = edo_offset(Event, b"type")
cdef Py_ssize_t _AT_KEY = edo_offset(Event, b"key")
cdef Py_ssize_t _AT_DATA = edo_offset(Event, b"data")
cdef Py_ssize_t _AT_CONTENT_TYPE = edo_offset(Event, b"content_type")
cdef Py_ssize_t _AT_SUBJECT = edo_offset(Event, b"subject")
cdef Py_ssize_t _AT_TIME_MS = edo_offset(Event, b"time_ms")
cdef Py_ssize_t _AT_POSITION = edo_offset(Event, b"position")
cdef Py_ssize_t _AT_CORRELATION_ID = edo_offset(Event, b"correlation_id")
cdef Py_ssize_t _AT_EXTENSIONS = edo_offset(Event, b"extensions")
cdef Py_ssize_t _AT_TIME_TEXT = edo_offset(Event, b"time_text")
cdef Py_ssize_t _ITEM_TOPIC = edo_offset(Publish, b"topic")
cdef Py_ssize_t _ITEM_PARTITION = edo_offset(Publish, b"partition")
cdef Py_ssize_t _ITEM_KEY = edo_offset(Publish, b"key")
cdef Py_ssize_t _ITEM_VALUE = edo_offset(Publish, b"value")
cdef Py_ssize_t _ITEM_HEADERS = edo_offset(Publish, b"headers")
cdef Py_ssize_t _ITEM_TIMESTAMP_MS = edo_offset(Publish, b"timestamp_ms")


cdef int _require(bint is_so, str what) except -1:
    """What buffers are as large as is good for; ``assert`` would say nothing under ``-O``."""
    if not is_so:
        raise ValueError(what)
    return 0


cdef enum:
    #: A longer text is not kept for the next record that has it: so caches of so many texts are
    #: of so many bytes, whatever comes from outside.
    _KEPT_BYTES = 256


# -- checksums

cdef extern from *:
    """
    /* CRC-32C (RFC 3720) with the processor's own instruction, which is four times as fast. */
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    #define EDO_HAS_CRC __builtin_cpu_supports("sse4.2")
    __attribute__((target("sse4.2")))
    static uint32_t edo_crc32c(const uint8_t *at, Py_ssize_t size) {
        uint64_t crc = 0xFFFFFFFFu, word;
        for (; size >= 8; size -= 8, at += 8) {
            memcpy(&word, at, 8);
            crc = __builtin_ia32_crc32di(crc, word);
        }
        for (; size > 0; size--, at++) crc = __builtin_ia32_crc32qi((uint32_t)crc, *at);
        return (uint32_t)crc ^ 0xFFFFFFFFu;
    }
    #else
    #define EDO_HAS_CRC 0
    static uint32_t edo_crc32c(const uint8_t *at, Py_ssize_t size) { return 0; }
    #endif
    """
    bint EDO_HAS_CRC
    uint32_t edo_crc32c(const uint8_t *at, Py_ssize_t size) noexcept nogil

HAS_CRC32C = bool(EDO_HAS_CRC)


def crc32c(const uint8_t[::1] data not None):
    """CRC-32C of data; only where :data:`HAS_CRC32C` says that there is a way to it."""
    cdef uint32_t crc
    cdef Py_ssize_t size = data.shape[0]
    _require(HAS_CRC32C, "this processor has no instruction for it")
    with nogil:
        crc = edo_crc32c(&data[0] if size else NULL, size)
    return crc


# -- bytes


cdef inline bint _is_printable(Bytes at, Py_ssize_t size) noexcept nogil:
    """Whether all is ASCII that a CloudEvents string may have."""
    cdef Py_ssize_t i
    for i in range(size):
        if at[i] < 0x20 or at[i] > 0x7E:
            return False
    return True


cdef inline bint _is_ascii(Bytes at, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        if at[i] & 0x80:
            return False
    return True


cdef extern from *:
    """
    /* Whether JSON has the byte as it is: printable ASCII, no quote, no backslash. */
    static inline int edo_is_as_is(uint8_t byte) {
        return byte >= 0x20 && byte < 0x7F && byte != 0x22 && byte != 0x5C;
    }
    #if defined(__SSE2__) && (defined(__GNUC__) || defined(__clang__))
    #include <emmintrin.h>
    static inline unsigned edo_not_as_is(const uint8_t *at) {
        const __m128i text = _mm_loadu_si128((const __m128i *)at);
        /* Signed: what is no ASCII is less than a space as well. */
        const __m128i low = _mm_cmplt_epi8(text, _mm_set1_epi8(0x20));
        const __m128i quote = _mm_cmpeq_epi8(text, _mm_set1_epi8(0x22));
        const __m128i escape = _mm_cmpeq_epi8(text, _mm_set1_epi8(0x5C));
        const __m128i del = _mm_cmpeq_epi8(text, _mm_set1_epi8(0x7F));
        return (unsigned)_mm_movemask_epi8(
            _mm_or_si128(_mm_or_si128(low, quote), _mm_or_si128(escape, del)));
    }
    /* The same of 8 bytes; of its bits, only the first that is set is certain. */
    static inline uint64_t edo_not_as_is_8(uint64_t text) {
        const uint64_t ones = 0x0101010101010101ULL, tops = 0x8080808080808080ULL;
        const uint64_t quote = text ^ 0x22 * ones, escape = text ^ 0x5C * ones, del = text ^ 0x7F * ones;
        return (text | (text - 0x20 * ones) | (quote - ones) | (escape - ones) | (del - ones)) & tops;
    }
    static inline uint64_t edo_load(const uint8_t *at, size_t size) {
        uint64_t text = 0;
        memcpy(&text, at, size);
        return text;
    }
    /* The first byte that is no printable ASCII, or that JSON escapes between quotes. */
    static const uint8_t *edo_as_is_end(const uint8_t *at, const uint8_t *end) {
        const Py_ssize_t size = end - at;
        uint64_t found;
        unsigned at_once;
        /* What is left at last is looked at with some that was looked at before. */
        if (size >= 16) {
            for (; end - at >= 16; at += 16)
                if ((at_once = edo_not_as_is(at))) return at + __builtin_ctz(at_once);
            at_once = edo_not_as_is(end - 16);
            return at_once ? end - 16 + __builtin_ctz(at_once) : end;
        }
        if (size >= 8) {
            if ((found = edo_not_as_is_8(edo_load(at, 8)))) return at + __builtin_ctzll(found) / 8;
            found = edo_not_as_is_8(edo_load(end - 8, 8));
            return found ? end - 8 + __builtin_ctzll(found) / 8 : end;
        }
        if (size >= 4) {
            found = edo_not_as_is_8(edo_load(at, 4) | edo_load(end - 4, 4) << 32);
            if (!found) return end;
            size_t first = (size_t)__builtin_ctzll(found) / 8;
            return first < 4 ? at + first : end - 8 + first;
        }
        while (at < end && edo_is_as_is(*at)) at++;
        return at;
    }
    #else
    static const uint8_t *edo_as_is_end(const uint8_t *at, const uint8_t *end) {
        while (at < end && edo_is_as_is(*at)) at++;
        return at;
    }
    #endif
    """
    Bytes edo_as_is_end(Bytes at, Bytes end) noexcept nogil


def as_is_size(bytes data not None):
    """How many bytes, from the first on, are printable ASCII that JSON need not escape."""
    cdef Bytes at = <Bytes>PyBytes_AS_STRING(data)
    return edo_as_is_end(at, at + PyBytes_GET_SIZE(data)) - at


cdef inline bint _is_same(Bytes at, Py_ssize_t size, const char *other, Py_ssize_t other_size) noexcept nogil:
    return size == other_size and memcmp(at, other, <size_t>size) == 0


# -- varints, as Kafka has them: zigzag, seven bits a byte


@cython.final
cdef class Corrupt(Exception):
    """A batch whose bytes are not what the format says."""


cdef inline int64_t _varint(Bytes *at, Bytes end) except? -7777777:
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef uint8_t byte
    while True:
        if at[0] >= end or shift > 63:
            raise Corrupt("a number is cut off or too long")
        byte = at[0][0]
        at[0] += 1
        value |= <uint64_t>(byte & 0x7F) << shift
        if not byte & 0x80:
            return <int64_t>(value >> 1) ^ -<int64_t>(value & 1)
        shift += 7


cdef bint _next_span(Bytes *at, Bytes end, Span *found) except -1:
    """The next name or value; whether there is one."""
    found.size = _varint(at, end)
    found.at = at[0]
    if found.size < 0 or found.size > end - at[0]:
        return False
    at[0] += found.size
    return True


cdef inline int _varint_size(int64_t number) noexcept nogil:
    cdef uint64_t value = (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)
    cdef int size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


cdef inline uint8_t *_put_varint(uint8_t *at, int64_t number) noexcept nogil:
    cdef uint64_t value = (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)
    while value >= 0x80:
        at[0] = <uint8_t>(value | 0x80)
        at += 1
        value >>= 7
    at[0] = <uint8_t>value
    return at + 1


# -- reading


cdef dict _names = {}
"""Texts of headers' names, by their bytes: a topic has few."""


cdef object _name_of(Span span):
    cdef bytes name = _bytes_of(span)
    cdef PyObject *known = PyDict_GetItem(_names, name)
    if known is not NULL:
        return <object>known
    # Brokers take any bytes for a name; one that is no text must not stop its partition.
    text = PyUnicode_DecodeUTF8(<const char *>span.at, span.size, "replace")
    if span.size > _KEPT_BYTES:
        return text
    if len(_names) >= 4096:
        _names.clear()
    _names[name] = text
    return text


@cython.final
@cython.freelist(4096)
@cython.no_gc
cdef class FetchedRecord:
    """A record as it was fetched; :class:`edo_stream.core.record.Record`.

    Its headers stay as they came until somebody asks for them.
    """

    cdef readonly str topic
    cdef readonly int partition
    cdef readonly int64_t offset
    cdef readonly int64_t timestamp
    cdef readonly bytes key
    cdef readonly bytes value
    cdef bytes _wire
    cdef int64_t _count
    cdef bint _is_object  # The value was found to be a JSON object.

    @property
    def headers(self):
        """Headers in the order sent: pairs of a name and bytes."""
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(self._wire)
        cdef Bytes end = at + PyBytes_GET_SIZE(self._wire)
        return _headers_of(at, end, self._count)

    @property
    def size_bytes(self):
        """As :func:`edo_stream.core.headers.size_of` counts, with key and value; -1: not known."""
        return self.counted()

    cdef int64_t counted(self) except? -2:
        """See ``size_bytes``."""
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(self._wire)
        cdef Bytes end = at + PyBytes_GET_SIZE(self._wire)
        cdef Span part
        cdef int64_t size = 0, i
        size += 0 if self.key is None else PyBytes_GET_SIZE(self.key)
        size += 0 if self.value is None else PyBytes_GET_SIZE(self.value)
        for i in range(self._count):
            # Python counts the characters of a name.
            if not _next_span(&at, end, &part) or not _is_ascii(part.at, part.size):
                return -1
            size += part.size + 8
            if _next_span(&at, end, &part):
                size += part.size
            elif part.size >= 0:
                return -1
        return size if at == end else -1

    def mentions(self, bytes text not None):
        """Whether a text occurs in the bytes of the headers: without it no header has it."""
        return text in self._wire

    def __repr__(self):
        return f"FetchedRecord({self.topic}-{self.partition}@{self.offset})"


cdef inline bytes _bytes_of(Span span):
    return PyBytes_FromStringAndSize(<const char *>span.at, span.size)


cdef bytes _next_value(Bytes *at, Bytes end):
    """The next key or value, which may be null."""
    cdef Span found
    if _next_span(at, end, &found):
        return _bytes_of(found)
    if found.size < 0:
        return None
    raise Corrupt("a key, a value or a header is cut off")


cdef list _headers_of(Bytes at, Bytes end, int64_t count):
    cdef list headers = []
    cdef Span name
    cdef int64_t i
    for i in range(count):
        if not _next_span(&at, end, &name):
            raise Corrupt("the name of a header is cut off")
        headers.append((_name_of(name), _next_value(&at, end)))
    if at != end:
        raise Corrupt("a record is longer than its parts")
    return headers


cdef int _check_headers(Bytes at, Bytes end, int64_t count) except -1:
    """Whether headers are what the format says, before anybody asks for them."""
    cdef Span span
    cdef int64_t i
    for i in range(count):
        if not _next_span(&at, end, &span):
            raise Corrupt("the name of a header is cut off")
        if not _next_span(&at, end, &span) and span.size >= 0:
            raise Corrupt("the value of a header is cut off")
    if at != end:
        raise Corrupt("a record is longer than its parts")
    return 0


def read_records(
    str topic,
    int partition,
    const uint8_t[::1] data not None,
    int64_t count,
    int64_t base_offset,
    int64_t first_ms,
    int64_t appended_ms,
    int64_t from_offset,
):
    """Records of one batch of format 2, of its uncompressed part.

    ``appended_ms`` is the time of all of them where the broker gives it, else -1. Those before
    ``from_offset`` are left out.

    Raises:
        Corrupt: the bytes are not what the format says.
    """
    cdef Py_ssize_t size_all = data.shape[0]
    cdef Bytes at = &data[0] if size_all else NULL
    cdef Bytes end = at + size_all
    cdef Bytes end_record
    cdef int64_t size, i, delta_ms, offset
    cdef FetchedRecord record
    cdef list records = []
    for i in range(count):
        size = _varint(&at, end)
        if size < 1 or size > end - at:
            raise Corrupt("a record is cut off")
        end_record = at + size
        at += 1  # Attributes: none are in use.
        delta_ms = _varint(&at, end_record)
        offset = base_offset + _varint(&at, end_record)
        if offset < from_offset:
            at = end_record
            continue
        record = FetchedRecord.__new__(FetchedRecord)
        record.topic = topic
        record.partition = partition
        record.offset = offset
        record.timestamp = first_ms + delta_ms if appended_ms < 0 else appended_ms
        record.key = _next_value(&at, end_record)
        record.value = _next_value(&at, end_record)
        record._count = _varint(&at, end_record)
        if record._count < 0 or record._count > end_record - at:
            raise Corrupt("a record has an impossible number of headers")
        _check_headers(at, end_record, record._count)
        record._wire = PyBytes_FromStringAndSize(<const char *>at, end_record - at)
        at = end_record
        records.append(record)
    if at != end:
        raise Corrupt("a batch is longer than its records")
    return records


def size_of(records not None, Py_ssize_t each):
    """Bytes of the keys and values of records, and so many more for each of them."""
    cdef Py_ssize_t size = 0
    cdef FetchedRecord fetched
    for record in records:
        size += each
        if type(record) is FetchedRecord:
            fetched = <FetchedRecord>record
            size += 0 if fetched.key is None else PyBytes_GET_SIZE(fetched.key)
            size += 0 if fetched.value is None else PyBytes_GET_SIZE(fetched.value)
        else:
            size += len(record.key or b"") + len(record.value or b"")
    return size


# -- JSON


cdef enum:
    _DEPTH_MAX = 60
    _DIGITS_MAX = 17


cdef inline Bytes _string_end(Bytes at, Bytes end) noexcept nogil:
    """Behind the closing quote; ``NULL`` for what is not plain: escapes of code points, no UTF-8."""
    cdef uint8_t byte
    while True:
        at = edo_as_is_end(at, end)
        if at >= end:
            return NULL
        byte = at[0]
        if byte == 0x22:
            return at + 1
        if byte == 0x5C:
            at += 1
            if at >= end:
                return NULL
            byte = at[0]
            if not (byte == 0x22 or byte == 0x5C or byte == 0x2F or byte == 0x62 or byte == 0x66
                    or byte == 0x6E or byte == 0x72 or byte == 0x74):
                return NULL
            at += 1
        elif byte < 0x20 or byte >= 0x80:
            return NULL
        else:
            at += 1


cdef inline Bytes _number_end(Bytes at, Bytes end) noexcept nogil:
    """Behind a number without an exponent and of few digits; ``NULL`` for any other."""
    cdef Bytes start
    if at < end and at[0] == 0x2D:
        at += 1
    start = at
    while at < end and 0x30 <= at[0] <= 0x39:
        at += 1
    if at == start or at - start > _DIGITS_MAX or (start[0] == 0x30 and at - start > 1):
        return NULL
    if at < end and at[0] == 0x2E:
        at += 1
        start = at
        while at < end and 0x30 <= at[0] <= 0x39:
            at += 1
        if at == start or at - start > _DIGITS_MAX:
            return NULL
    if at < end and (at[0] == 0x65 or at[0] == 0x45):
        return NULL
    return at


cdef bint _is_plain_object(Bytes at, Py_ssize_t size) noexcept nogil:
    """Whether this is surely a JSON object, in ASCII, without a member ``metadata``.

    ``False`` says only that somebody else has to look.
    """
    cdef Bytes end = at + size
    cdef Bytes start
    cdef uint64_t is_object = 0  # A bit for each level.
    cdef int depth = 0
    cdef bint wants_value = True, wants_key = False, may_close = False
    cdef uint8_t byte
    if size < 2 or at[0] != 0x7B:
        return False
    while at < end:
        byte = at[0]
        if byte == 0x20 or byte == 0x0A or byte == 0x0D or byte == 0x09:
            at += 1
            continue
        if wants_key:
            if byte == 0x22:
                start = at + 1
                at = _string_end(start, end)
                if at is NULL:
                    return False
                if depth == 1 and _is_same(start, at - 1 - start, b"metadata", 8):
                    return False
                if depth == 1 and _has_escape(start, at - 1):
                    return False
                while at < end and (at[0] == 0x20 or at[0] == 0x0A or at[0] == 0x0D or at[0] == 0x09):
                    at += 1
                if at >= end or at[0] != 0x3A:
                    return False
                at += 1
                wants_key = False
                wants_value = True
                may_close = False
                continue
            if byte == 0x7D and may_close:
                at += 1
                depth -= 1
                wants_key = wants_value = may_close = False
                if depth == 0:
                    break
                continue
            return False
        if wants_value:
            if byte == 0x22:
                at = _string_end(at + 1, end)
                if at is NULL:
                    return False
            elif byte == 0x7B:
                if depth >= _DEPTH_MAX:
                    return False
                depth += 1
                is_object |= <uint64_t>1 << depth
                at += 1
                wants_key = True
                wants_value = False
                may_close = True
                continue
            elif byte == 0x5B:
                if depth >= _DEPTH_MAX:
                    return False
                depth += 1
                is_object &= ~(<uint64_t>1 << depth)
                at += 1
                may_close = True
                continue
            elif byte == 0x5D and may_close:
                at += 1
                depth -= 1
                wants_value = may_close = False
                continue
            elif byte == 0x74 and end - at >= 4 and memcmp(at, b"true", 4) == 0:
                at += 4
            elif byte == 0x66 and end - at >= 5 and memcmp(at, b"false", 5) == 0:
                at += 5
            elif byte == 0x6E and end - at >= 4 and memcmp(at, b"null", 4) == 0:
                at += 4
            else:
                at = _number_end(at, end)
                if at is NULL:
                    return False
            wants_value = may_close = False
            continue
        # Behind a value.
        if byte == 0x2C:
            at += 1
            may_close = False
            if is_object >> depth & 1:
                wants_key = True
            else:
                wants_value = True
            continue
        if (byte == 0x7D and is_object >> depth & 1) or (byte == 0x5D and not is_object >> depth & 1):
            at += 1
            depth -= 1
            if depth == 0:
                break
            continue
        return False
    if depth != 0 or wants_value or wants_key:
        return False
    while at < end:
        byte = at[0]
        if not (byte == 0x20 or byte == 0x0A or byte == 0x0D or byte == 0x09):
            return False
        at += 1
    return True


cdef inline bint _has_escape(Bytes at, Bytes end) noexcept nogil:
    return memchr(at, 0x5C, <size_t>(end - at)) is not NULL


def is_plain_object(bytes data not None):
    """Whether data is surely a JSON object without ``metadata``; ``False``: somebody has to look."""
    return bool(_is_plain_object(<Bytes>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)))


# -- time


cdef inline int _digits(Bytes at, int count) noexcept nogil:
    """A number of so many digits, -1 for anything else."""
    cdef int number = 0, i
    for i in range(count):
        if at[i] < 0x30 or at[i] > 0x39:
            return -1
        number = number * 10 + (at[i] - 0x30)
    return number


cdef inline int _days_in(int month, int year) noexcept nogil:
    if month == 2:
        return 29 if (year % 4 == 0 and year % 100 != 0) or year % 400 == 0 else 28
    if month == 4 or month == 6 or month == 9 or month == 11:
        return 30
    return 31


cdef enum:
    _TIME_BYTES = 24
cdef int64_t _NOT_WRITTEN = -(<int64_t>1 << 62)


cdef int64_t _written_ms(Bytes at) noexcept nogil:
    """Epoch ms of ``2026-01-31T12:00:00.000Z``, with its 24 bytes."""
    cdef int year = _digits(at, 4), month = _digits(at + 5, 2), day = _digits(at + 8, 2)
    cdef int hour = _digits(at + 11, 2), minute = _digits(at + 14, 2), second = _digits(at + 17, 2)
    cdef int rest = _digits(at + 20, 3)
    cdef int64_t era, days
    cdef int y, in_era, in_year
    if (at[4] != 0x2D or at[7] != 0x2D or at[10] != 0x54 or at[13] != 0x3A or at[16] != 0x3A
            or at[19] != 0x2E or at[23] != 0x5A):
        return _NOT_WRITTEN
    if (year < 1 or month < 1 or month > 12 or day < 1 or hour < 0 or hour > 23 or minute < 0
            or minute > 59 or second < 0 or second > 59 or rest < 0):
        return _NOT_WRITTEN
    if day > _days_in(month, year):
        return _NOT_WRITTEN
    # Days since 1970 of the proleptic Gregorian calendar, in years that begin with March.
    y = year - (1 if month <= 2 else 0)
    era = y // 400
    in_era = y - <int>era * 400
    in_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146097 + in_era * 365 + in_era // 4 - in_era // 100 + in_year - 719468
    return ((days * 24 + hour) * 60 + minute) * 60000 + second * 1000 + rest


# -- decoding


cdef enum:
    _KEY_RECORD = 1
    _KEY_SUBJECT = 2
    _POSITION_NONE = 1
    _POSITION_TIME = 2
    _POSITION_HEADER = 3

KEY_IS_RECORD, KEY_IS_SUBJECT = _KEY_RECORD, _KEY_SUBJECT
POSITION_IS_NONE, POSITION_IS_TIME, POSITION_IS_HEADER = (
    _POSITION_NONE,
    _POSITION_TIME,
    _POSITION_HEADER,
)


cdef inline bint _is_equal(Span one, Span other) noexcept nogil:
    return _is_same(one.at, one.size, <const char *>other.at, other.size)


cdef inline Span _span(const char *text) noexcept nogil:
    cdef Span span
    span.at = <Bytes>text
    span.size = <int64_t>strlen(text)
    return span


cdef enum:
    # Attributes that an event has as fields of its own, and that are kept as they are found.
    _ID
    _SOURCE
    _TYPE
    _SUBJECT
    _TIME
    _MEDIA
    _CORRELATION
    _CAUSATION
    _FIELDS

cdef Span _FIELD_NAMES[_FIELDS]
_FIELD_NAMES[_ID] = _span(b"ce_id")
_FIELD_NAMES[_SOURCE] = _span(b"ce_source")
_FIELD_NAMES[_TYPE] = _span(b"ce_type")
_FIELD_NAMES[_SUBJECT] = _span(b"ce_subject")
_FIELD_NAMES[_TIME] = _span(b"ce_time")
_FIELD_NAMES[_MEDIA] = _span(b"content-type")
_FIELD_NAMES[_CORRELATION] = _span(b"ce_correlationid")
_FIELD_NAMES[_CAUSATION] = _span(b"ce_causationid")
cdef Span _VERSION_NAME = _span(b"ce_specversion")
cdef Span _DATA_NAME = _span(b"ce_data")
cdef Span _CONTENT_TYPE_NAME = _span(b"ce_datacontenttype")
cdef enum:
    _HEADERS_MAX = 32


cdef inline bint _is_plain_name(Span name) noexcept nogil:
    """Whether a header that is no field may travel on by its name: a plain attribute or text."""
    cdef int64_t i
    if name.size < 3 or memcmp(name.at, b"ce_", 3) != 0:
        return _is_printable(name.at, name.size)
    if name.size == 3 or _is_equal(name, _DATA_NAME) or _is_equal(name, _CONTENT_TYPE_NAME):
        return False
    for i in range(3, name.size):
        if not (0x61 <= name.at[i] <= 0x7A or 0x30 <= name.at[i] <= 0x39):
            return False
    return True


cdef inline bint _is_attribute(Span name) noexcept nogil:
    return name.size >= 3 and memcmp(name.at, b"ce_", 3) == 0


cdef inline object _text_or_none(Span span):
    return edo_ascii(<const char *>span.at, span.size) if span.size else None


cdef int64_t _whole_number(Span digits) noexcept nogil:
    """A number of so many digits that it surely fits, -1 for anything else."""
    cdef int64_t number = 0, i
    if digits.size < 1 or digits.size > 18:
        return -1
    for i in range(digits.size):
        if digits.at[i] < 0x30 or digits.at[i] > 0x39:
            return -1
        number = number * 10 + (digits.at[i] - 0x30)
    return number


@cython.final
cdef class Known:
    """The last value of an attribute, and what it means."""

    cdef bytes _value
    cdef object meaning

    cdef inline bint is_of(self, Span value) noexcept:
        return self._value is not None and _is_same(
            value.at, value.size, PyBytes_AS_STRING(self._value), PyBytes_GET_SIZE(self._value)
        )

    cdef int keep(self, Span value, object meaning) except -1:
        self._value = _bytes_of(value)
        self.meaning = meaning
        return 0


cdef enum:
    # What a header is, where it is no field: those are their own numbers.
    _IS_VERSION = _FIELDS
    _IS_ATTRIBUTE
    _IS_OTHER
    _IS_POSITION = 64  # Besides.


@cython.final
cdef class PlainDecoder:
    """Decodes CloudEvents in binary mode whose attributes are plain; ``None`` for any other.

    See :func:`edo_stream.sources.cloudevents.decoder`, whose slow way each ``None`` goes.
    """

    cdef int _key, _position
    cdef bint _is_needed
    cdef bytes _position_name
    cdef object _media_of, _time_of
    cdef dict _texts, _media
    cdef Known _source, _type, _content_type
    # Headers of a record that was plain, most are like the last: names, what they mean, and texts.
    cdef int _last_count
    cdef bytes _last_wire
    cdef Span _last_names[_HEADERS_MAX]
    cdef int _last_kinds[_HEADERS_MAX]
    cdef list _last_texts

    def __init__(
        self, int key, int position, bint is_needed, bytes position_name, media_of, time_of
    ):
        """``media_of`` gives text and whether it is JSON of a content type, or ``None``."""
        self._key = key
        self._position = position
        self._is_needed = is_needed
        self._position_name = position_name
        self._media_of = media_of
        self._time_of = time_of
        self._texts = {}
        self._media = {}
        self._source, self._type, self._content_type = Known(), Known(), Known()
        self._last_count = -1

    cdef object _known(self, Known last, Span text):
        """Text of an attribute of few values, often the same as the last time."""
        if text.size > _KEPT_BYTES:
            return _text_or_none(text)
        if not last.is_of(text):
            last.keep(text, self._known_text(text))
        return last.meaning

    cdef object _known_text(self, Span text):
        cdef bytes value = _bytes_of(text)
        cdef PyObject *known = PyDict_GetItem(self._texts, value)
        if known is not NULL:
            return <object>known
        found = _text_or_none(text)
        if len(self._texts) >= 4096:
            self._texts.clear()
        self._texts[value] = found
        return found

    cdef object _known_media(self, Span text):
        if not self._content_type.is_of(text):
            self._content_type.keep(text, self._media_by_text(text))
        return self._content_type.meaning

    cdef object _media_by_text(self, Span text):
        cdef bytes value = _bytes_of(text) if text.size else None
        cdef PyObject *known = PyDict_GetItem(self._media, value)
        if known is not NULL:
            return <object>known
        media = self._media_of(value)
        if text.size > _KEPT_BYTES:
            return media
        if len(self._media) >= 1024:
            self._media.clear()
        self._media[value] = media
        return media

    cdef bint _read(self, FetchedRecord record, Span *fields, Span *position, list extensions) except -1:
        """Sort a record's headers; whether all of them are plain."""
        if record._count == self._last_count:
            if self._read_as_last(record, fields, position, extensions):
                return True
            memset(fields, 0, _FIELDS * sizeof(Span))
            memset(position, 0, sizeof(Span))
            del extensions[:]
        return self._read_anew(record, fields, position, extensions)

    cdef bint _read_as_last(
        self, FetchedRecord record, Span *fields, Span *position, list extensions
    ) except -1:
        """The same, of headers with the names of the last ones; whether all are, and plain."""
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(record._wire)
        cdef Bytes end = at + PyBytes_GET_SIZE(record._wire)
        cdef Span name, value
        cdef int i, kind
        for i in range(self._last_count):
            if not (_next_span(&at, end, &name) and _next_span(&at, end, &value)):
                return False
            if not _is_equal(name, self._last_names[i]):
                return False
            kind = self._last_kinds[i]
            if kind & _IS_POSITION:
                position[0] = value
                kind &= ~_IS_POSITION
            if kind < _FIELDS:
                fields[kind] = value
            elif kind == _IS_VERSION:
                if not _is_same(value.at, value.size, b"1.0", 3):
                    return False
            elif kind == _IS_ATTRIBUTE and not _is_ascii(value.at, value.size):
                return False
            else:
                extensions.append((self._last_texts[i], _bytes_of(value)))
        return at == end

    cdef bint _read_anew(
        self, FetchedRecord record, Span *fields, Span *position, list extensions
    ) except -1:
        """The same, of any headers; those that are plain are kept for the next."""
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(record._wire)
        cdef Bytes end = at + PyBytes_GET_SIZE(record._wire)
        cdef Span *names = self._last_names
        cdef Span value, wanted
        cdef bint has_version = False
        cdef list texts = []
        cdef int i, j, field
        self._last_count = -1
        if record._count > _HEADERS_MAX:
            return False
        wanted.at = <Bytes>PyBytes_AS_STRING(self._position_name)
        wanted.size = PyBytes_GET_SIZE(self._position_name)
        for i in range(<int>record._count):
            if not (_next_span(&at, end, &names[i]) and _next_span(&at, end, &value)):
                return False
            for j in range(i):
                if _is_equal(names[j], names[i]):
                    return False
            text = None
            for field in range(_FIELDS):
                if _is_equal(names[i], _FIELD_NAMES[field]):
                    fields[field] = value
                    break
            else:
                if _is_equal(names[i], _VERSION_NAME):
                    has_version = _is_same(value.at, value.size, b"1.0", 3)
                    field = _IS_VERSION
                elif not _is_plain_name(names[i]):
                    return False
                elif _is_attribute(names[i]) and not _is_ascii(value.at, value.size):
                    return False
                else:
                    text = _name_of(names[i])
                    extensions.append((text, _bytes_of(value)))
                    field = _IS_ATTRIBUTE if _is_attribute(names[i]) else _IS_OTHER
            if _is_equal(names[i], wanted):
                position[0] = value
                field |= _IS_POSITION
            self._last_kinds[i] = field
            texts.append(text)
        if at != end or not has_version:
            return False
        self._last_wire = record._wire  # Where the names are.
        self._last_texts = texts
        self._last_count = <int>record._count
        return True

    def decode(self, FetchedRecord record not None):
        """The event of a record, or ``None``."""
        return self._event(record)

    cdef object _event(self, FetchedRecord record):
        """The event of a record, or ``None``."""
        cdef Span fields[_FIELDS]
        cdef Span position_text
        cdef Span time
        cdef list extensions = []
        cdef int field
        cdef int64_t number, written_ms
        cdef tuple media
        memset(fields, 0, sizeof(fields))
        memset(&position_text, 0, sizeof(position_text))
        if not self._read(record, fields, &position_text, extensions):
            return None
        if fields[_ID].size == 0 or fields[_SOURCE].size == 0 or fields[_TYPE].size == 0:
            return None
        for field in range(_FIELDS):
            # A time and a content type are judged by their own rules.
            if field != _TIME and field != _MEDIA:
                if not _is_printable(fields[field].at, fields[field].size):
                    return None
        event_ms = time_text = None
        time = fields[_TIME]
        if time.size:
            time_text = _bytes_of(time)
            written_ms = _written_ms(time.at) if time.size == _TIME_BYTES else _NOT_WRITTEN
            if written_ms != _NOT_WRITTEN:
                event_ms = written_ms
            else:
                found = self._time_of(time_text)
                if found is None:
                    return None
                event_ms, time_text = found
        media = self._known_media(fields[_MEDIA])
        if media is None:
            return None
        data = record.value
        if data is not None and PyBytes_GET_SIZE(data) > 0:
            if media[1] or (media[0] is None and PyBytes_AS_STRING(data)[0] == 0x7B):
                if not _is_plain_object(<Bytes>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)):
                    return None
                record._is_object = True
        key = record.key
        if self._key == _KEY_SUBJECT:
            key = None
            if fields[_SUBJECT].size:
                key = _bytes_of(fields[_SUBJECT])
        if key is None:
            return None
        position = None
        if self._position == _POSITION_TIME:
            position = event_ms
        elif self._position == _POSITION_HEADER and position_text.at is not NULL:
            number = _whole_number(position_text)
            if number < 0:
                return None
            position = number
        if position is None and self._is_needed:
            return None
        return Event(
            _text_or_none(fields[_ID]),
            self._known(self._source, fields[_SOURCE]),
            self._known(self._type, fields[_TYPE]),
            key,
            data,
            media[0],
            _text_or_none(fields[_SUBJECT]),
            event_ms,
            position,
            _text_or_none(fields[_CORRELATION]),
            _text_or_none(fields[_CAUSATION]),
            tuple(extensions),
            time_text,
        )


@cython.final
cdef class PlainJudge:
    """Whether an event surely keeps its contract, and goes on as it is.

    See :func:`edo_stream.schemas.enforcement.enforced`, to whose slow way each ``False`` goes.
    """

    cdef object _verdict_of, _is_valid, _loads, _now_ms
    cdef dict _verdicts
    cdef bint _must_say
    cdef object _sources
    cdef int64_t _until_ms

    def __init__(
        self,
        noted,
        str expiry not None,
        verdict_of,
        bint must_say,
        sources,
        is_valid,
        loads,
        now_ms,
        int64_t until_ms,
    ):
        """``noted`` are the attributes that mean something to the contract, ``expiry`` one of them.

        ``verdict_of`` says of the name and value of any other of them whether it is plain, and
        whether it says the version that goes on, which ``must_say`` asks for: 0, 1, or 2.
        ``sources`` and ``is_valid``, which gets what ``loads`` makes of the data, are ``None``
        where all are right; ``until_ms`` is negative for a contract that is in use for good.
        """
        self._verdict_of = verdict_of
        self._verdicts = {name: None if name == expiry else {} for name in noted}
        self._must_say = must_say
        self._sources = sources
        self._is_valid = is_valid
        self._loads = loads
        self._now_ms = now_ms
        self._until_ms = until_ms

    cdef int _verdict(self, dict known, str name, bytes value) except -1:
        cdef PyObject *found = PyDict_GetItem(known, value)
        if found is not NULL:
            return <object>found
        verdict = self._verdict_of(name, value)
        if PyBytes_GET_SIZE(value) > _KEPT_BYTES:
            return verdict
        if len(known) >= 1024:
            known.clear()
        known[value] = verdict
        return verdict

    cdef bint _is_before(self, int64_t time_ms) except -1:
        """Whether it is surely earlier; Python may take a time for a millisecond less."""
        cdef int64_t now_ms = self._now_ms()
        return now_ms < time_ms - 1

    cdef bint _passes(self, event) except -1:
        """Whether nothing of the event's contract is broken; its headers are distinct."""
        cdef bint is_said = not self._must_say
        cdef PyObject *known
        cdef int64_t expiry_ms
        cdef int verdict
        cdef bytes value
        for pair in <tuple?>_field(event, _AT_EXTENSIONS, "extensions"):
            known = PyDict_GetItem(self._verdicts, (<tuple?>pair)[0])
            if known is NULL:
                continue
            value = (<tuple>pair)[1]
            if <object>known is None:
                if PyBytes_GET_SIZE(value) != _TIME_BYTES:
                    return False
                expiry_ms = _written_ms(<Bytes>PyBytes_AS_STRING(value))
                if expiry_ms == _NOT_WRITTEN or not self._is_before(expiry_ms):
                    return False
                continue
            verdict = self._verdict(<dict>known, (<tuple>pair)[0], value)
            if verdict == 0:
                return False
            if verdict == 2:
                is_said = True
        if not is_said or (self._until_ms >= 0 and not self._is_before(self._until_ms)):
            return False
        if (
            self._sources is not None
            and _field(event, _AT_SOURCE, "source") not in self._sources
        ):
            return False
        if self._is_valid is None:
            return True
        data = _field(event, _AT_DATA, "data")
        if data is None:
            return False
        try:
            return self._is_valid(self._loads(data))
        except ValueError:
            return False


@cython.final
cdef class PlainFirst:
    """A decoder that asks the compiled one first, and Python for what that leaves."""

    cdef PlainDecoder _decoder
    cdef object _slow, _judged
    cdef PlainJudge _judge
    cdef int64_t _unsampled

    def __init__(self, PlainDecoder decoder not None, slow):
        """``slow`` decodes any record."""
        self._decoder = decoder
        self._slow = slow
        self._judged = None
        self._judge = None
        self._unsampled = 0

    def under(self, PlainJudge judge not None, slow, judged, int64_t unsampled):
        """The same under a contract; ``judged`` gets events that the judge does not let pass.

        Records at whose offsets all bits of ``unsampled`` are 0 go to ``slow``, as all do that
        are not plain.
        """
        cdef PlainFirst found = PlainFirst(self._decoder, slow)
        _require(unsampled != 0, "some records are not sampled")
        found._judge = judge
        found._judged = judged
        found._unsampled = unsampled
        return found

    cdef object _outcome(self, record):
        cdef FetchedRecord fetched
        if type(record) is not FetchedRecord:
            return self._slow(record)
        fetched = <FetchedRecord>record
        if self._judge is not None and fetched.offset & self._unsampled == 0:
            return self._slow(record)
        event = self._decoder._event(fetched)
        if event is None:
            return self._slow(record)
        if self._judge is None or self._judge._passes(event):
            return event
        return self._judged(event)

    def __call__(self, record):
        """Decode a record."""
        return self._outcome(record)

    def extend(self, list outcomes not None, records):
        """Decode records from the one on that is next; what is raised is about the next then."""
        cdef Py_ssize_t index, end = len(records)
        for index in range(len(outcomes), end):
            outcomes.append(self._outcome(records[index]))


# -- digests


cdef extern from *:
    """
    /* BLAKE2b (RFC 7693), without a key, of 16 bytes; and SHA-1 (RFC 3174). */
    #include <stdint.h>
    #include <string.h>

    static const uint64_t edo_iv[8] = {
        0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
        0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL};
    static const uint8_t edo_sigma[10][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
        {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
        {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
        {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
        {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};
    #define EDO_ROTR(x, n) (((x) >> (n)) | ((x) << (64 - (n))))
    #define EDO_G(a, b, c, d, x, y) \\
        v[a] += v[b] + (x); v[d] = EDO_ROTR(v[d] ^ v[a], 32); \\
        v[c] += v[d]; v[b] = EDO_ROTR(v[b] ^ v[c], 24); \\
        v[a] += v[b] + (y); v[d] = EDO_ROTR(v[d] ^ v[a], 16); \\
        v[c] += v[d]; v[b] = EDO_ROTR(v[b] ^ v[c], 63);
    static uint64_t edo_le64(const uint8_t *p) {
        uint64_t x = 0;
        for (int i = 7; i >= 0; i--) x = x << 8 | p[i];
        return x;
    }
    static void edo_blake2b_block(uint64_t h[8], const uint8_t *block, uint64_t count, int last) {
        uint64_t v[16], m[16];
        for (int i = 0; i < 16; i++) m[i] = edo_le64(block + 8 * i);
        for (int i = 0; i < 8; i++) { v[i] = h[i]; v[i + 8] = edo_iv[i]; }
        v[12] ^= count;
        if (last) v[14] = ~v[14];
        #pragma GCC unroll 12
        for (int r = 0; r < 12; r++) {
            const uint8_t *s = edo_sigma[r % 10];
            EDO_G(0, 4, 8, 12, m[s[0]], m[s[1]])
            EDO_G(1, 5, 9, 13, m[s[2]], m[s[3]])
            EDO_G(2, 6, 10, 14, m[s[4]], m[s[5]])
            EDO_G(3, 7, 11, 15, m[s[6]], m[s[7]])
            EDO_G(0, 5, 10, 15, m[s[8]], m[s[9]])
            EDO_G(1, 6, 11, 12, m[s[10]], m[s[11]])
            EDO_G(2, 7, 8, 13, m[s[12]], m[s[13]])
            EDO_G(3, 4, 9, 14, m[s[14]], m[s[15]])
        }
        for (int i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
    }
    /* The whole message at once; ``out`` has 16 bytes. */
    static void edo_blake2b_16(const uint8_t *at, size_t size, uint8_t *out) {
        uint64_t h[8], count = 0;
        uint8_t block[128];
        for (int i = 0; i < 8; i++) h[i] = edo_iv[i];
        h[0] ^= 0x01010000 ^ 16;
        while (size > 128) {
            count += 128;
            edo_blake2b_block(h, at, count, 0);
            at += 128; size -= 128;
        }
        memset(block, 0, 128);
        if (size) memcpy(block, at, size);
        edo_blake2b_block(h, block, count + size, 1);
        for (int i = 0; i < 16; i++) out[i] = (uint8_t)(h[i / 8] >> (8 * (i % 8)));
    }

    static uint32_t edo_rotl(uint32_t x, int n) { return x << n | x >> (32 - n); }
    static void edo_sha1_slow(uint32_t h[5], const uint8_t *p) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], t;
        int i;
        for (i = 0; i < 16; i++)
            w[i] = (uint32_t)p[4*i] << 24 | (uint32_t)p[4*i+1] << 16 | (uint32_t)p[4*i+2] << 8 | p[4*i+3];
        for (; i < 80; i++) w[i] = edo_rotl(w[i-3] ^ w[i-8] ^ w[i-14] ^ w[i-16], 1);
        for (i = 0; i < 20; i++) {
            t = edo_rotl(a, 5) + ((b & c) | (~b & d)) + e + w[i] + 0x5A827999u;
            e = d; d = c; c = edo_rotl(b, 30); b = a; a = t; }
        for (; i < 40; i++) {
            t = edo_rotl(a, 5) + (b ^ c ^ d) + e + w[i] + 0x6ED9EBA1u;
            e = d; d = c; c = edo_rotl(b, 30); b = a; a = t; }
        for (; i < 60; i++) {
            t = edo_rotl(a, 5) + ((b & c) | (b & d) | (c & d)) + e + w[i] + 0x8F1BBCDCu;
            e = d; d = c; c = edo_rotl(b, 30); b = a; a = t; }
        for (; i < 80; i++) {
            t = edo_rotl(a, 5) + (b ^ c ^ d) + e + w[i] + 0xCA62C1D6u;
            e = d; d = c; c = edo_rotl(b, 30); b = a; a = t; }
        h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e;
    }
    /* The same by the processor's own instructions, four rounds each. */
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    #include <cpuid.h>
    #include <immintrin.h>
    static int edo_has_sha(void) {
        unsigned a, b = 0, c, d;
        return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) && __builtin_cpu_supports("sse4.1");
    }
    #define EDO_ROUNDS(i, f) \\
        if (i >= 4) m[i & 3] = _mm_sha1msg2_epu32(_mm_xor_si128( \\
            _mm_sha1msg1_epu32(m[i & 3], m[(i + 1) & 3]), m[(i + 2) & 3]), m[(i + 3) & 3]); \\
        next = i ? _mm_sha1nexte_epu32(e, m[i & 3]) : _mm_add_epi32(e, m[0]); \\
        e = abcd; abcd = _mm_sha1rnds4_epu32(abcd, next, f);
    #define EDO_TWENTY(i, f) \\
        EDO_ROUNDS(i, f) EDO_ROUNDS((i + 1), f) EDO_ROUNDS((i + 2), f) EDO_ROUNDS((i + 3), f) EDO_ROUNDS((i + 4), f)
    __attribute__((target("sha,sse4.1,ssse3")))
    static void edo_sha1_fast(uint32_t h[5], const uint8_t *p) {
        const __m128i order = _mm_set_epi64x(0x0001020304050607LL, 0x08090a0b0c0d0e0fLL);
        __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0x1B), e, next, m[4];
        const __m128i abcd_before = abcd, e_before = _mm_set_epi32((int)h[4], 0, 0, 0);
        for (int i = 0; i < 4; i++)
            m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), order);
        e = e_before;
        EDO_TWENTY(0, 0) EDO_TWENTY(5, 1) EDO_TWENTY(10, 2) EDO_TWENTY(15, 3)
        e = _mm_sha1nexte_epu32(e, e_before);
        abcd = _mm_shuffle_epi32(_mm_add_epi32(abcd, abcd_before), 0x1B);
        _mm_storeu_si128((__m128i *)h, abcd);
        h[4] = (uint32_t)_mm_extract_epi32(e, 3);
    }
    #else
    static int edo_has_sha(void) { return 0; }
    #define edo_sha1_fast edo_sha1_slow
    #endif
    static int edo_is_sha_used = 0;
    static void edo_sha1_block(uint32_t h[5], const uint8_t *p) {
        if (edo_is_sha_used) edo_sha1_fast(h, p); else edo_sha1_slow(h, p);
    }
    /* The rest of a message whose first ``done`` bytes, whole blocks, are in ``h`` already. */
    static void edo_sha1_rest(uint32_t h[5], uint64_t done, const uint8_t *at, size_t size, uint8_t *out) {
        uint8_t block[128];
        uint64_t bits = (done + size) * 8;
        while (size >= 64) { edo_sha1_block(h, at); at += 64; size -= 64; }
        memset(block, 0, 128);
        if (size) memcpy(block, at, size);
        block[size] = 0x80;
        size_t blocks = size < 56 ? 1 : 2;
        for (int i = 0; i < 8; i++) block[64 * blocks - 1 - i] = (uint8_t)(bits >> (8 * i));
        edo_sha1_block(h, block);
        if (blocks == 2) edo_sha1_block(h, block + 64);
        for (int i = 0; i < 20; i++) out[i] = (uint8_t)(h[i / 4] >> (8 * (3 - i % 4)));
    }
    """
    void edo_blake2b_16(const uint8_t *at, size_t size, uint8_t *out) noexcept nogil
    int edo_has_sha() noexcept nogil
    int edo_is_sha_used
    void edo_sha1_block(uint32_t *h, const uint8_t *p) noexcept nogil
    void edo_sha1_rest(
        uint32_t *h, uint64_t done, const uint8_t *at, size_t size, uint8_t *out
    ) noexcept nogil

edo_is_sha_used = edo_has_sha()


def sha1(bytes data not None, bint is_by_processor):
    """SHA-1 of data, by the processor's own instructions if it has them, or without."""
    global edo_is_sha_used
    cdef uint32_t state[5]
    cdef uint8_t hashed[20]
    state[0], state[1], state[2] = 0x67452301, 0xEFCDAB89, 0x98BADCFE
    state[3], state[4] = 0x10325476, 0xC3D2E1F0
    edo_is_sha_used = is_by_processor and edo_has_sha()
    edo_sha1_rest(
        state, 0, <Bytes>PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data), hashed
    )
    edo_is_sha_used = edo_has_sha()
    return PyBytes_FromStringAndSize(<const char *>hashed, 20)


cdef inline uint8_t *_put_decimal(uint8_t *at, uint64_t number) noexcept nogil:
    cdef uint8_t digits[20]
    cdef int count = 0
    while True:
        digits[count] = <uint8_t>(0x30 + number % 10)
        number //= 10
        count += 1
        if number == 0:
            break
    while count:
        count -= 1
        at[0] = digits[count]
        at += 1
    return at


cdef enum:
    _MESSAGE_BYTES = 1024
    _TEXT_BYTES = 200
    _DIGEST_BYTES = 16


cdef uint8_t *_put_counted(uint8_t *at, object text) except? NULL:
    """Bytes of a text behind their number; ``NULL`` for a long one."""
    cdef Py_ssize_t size
    cdef const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size)
    if size > _TEXT_BYTES:
        return NULL
    at = _put_decimal(at, <uint64_t>size)
    at[0] = 0x3A
    memcpy(at + 1, utf8, <size_t>size)
    return at + 1 + size


@cython.final
cdef class SourceIdDigest:
    """Digests of events by source and id; see :func:`edo_stream.core.dedupe.digest_of`."""

    cdef bytes _start
    cdef object _slow

    def __init__(self, bytes start not None, slow):
        """``start`` is what each message begins with; ``slow`` takes what is too long, or no UTF-8."""
        _require(len(start) <= _MESSAGE_BYTES - 2 * (_TEXT_BYTES + 8), "a start that is too long")
        self._start = start
        self._slow = slow

    def of_all(self, list judged not None):
        """Digests of a batch; empty for what is no event."""
        cdef list digests = []
        cdef uint8_t message[_MESSAGE_BYTES]
        cdef uint8_t out[_DIGEST_BYTES]
        cdef Py_ssize_t start_size = PyBytes_GET_SIZE(self._start)
        cdef uint8_t *at
        memcpy(message, PyBytes_AS_STRING(self._start), <size_t>start_size)
        for outcome in judged:
            if type(outcome) is not Event:
                digests.append(b"")
                continue
            try:
                at = _put_counted(message + start_size, _field(outcome, _AT_SOURCE, "source"))
                if at is not NULL:
                    at = _put_counted(at, _field(outcome, _AT_ID, "id"))
            except UnicodeEncodeError:
                at = NULL
            if at is NULL:
                digests.append(self._slow(outcome))
                continue
            edo_blake2b_16(message, <size_t>(at - message), out)
            digests.append(PyBytes_FromStringAndSize(<const char *>out, _DIGEST_BYTES))
        return digests


def ids_rows(bytes key not None, bytes value):
    """Rows of a record of the ids table; see :func:`edo_stream.core.dedupe.expand_ids`."""
    cdef list rows = [(b"b" + key, value)]
    cdef Py_ssize_t at, size
    cdef bytes expiry
    if value is None:
        return rows
    size = PyBytes_GET_SIZE(value)
    expiry = value[:4]
    for at in range(4, size, _DIGEST_BYTES):
        rows.append((
            _id_row(<Bytes>PyBytes_AS_STRING(value) + at, min(size - at, _DIGEST_BYTES)), expiry
        ))
    return rows


def ids_names(list digests not None):
    """Keys of the rows of digests."""
    cdef list names = []
    cdef bytes digest
    for item in digests:
        digest = item
        names.append(_id_row(<Bytes>PyBytes_AS_STRING(digest), PyBytes_GET_SIZE(digest)))
    return names


cdef inline bytes _id_row(Bytes digest, Py_ssize_t size):
    cdef bytes row = PyBytes_FromStringAndSize(NULL, 1 + size)
    PyBytes_AS_STRING(row)[0] = 0x64
    memcpy(PyBytes_AS_STRING(row) + 1, digest, <size_t>size)
    return row


# -- results


@cython.final
@cython.no_gc
cdef class WireHeaders:
    """Headers as a record's bytes have them; a sequence of pairs for whoever asks."""

    cdef bytes wire
    cdef int _count
    cdef readonly Py_ssize_t size_bytes
    """Names, values, and 8 for each, as :func:`edo_stream.core.headers.size_of` counts."""

    def __len__(self):
        return self._count

    def __iter__(self):
        return iter(self._pairs())

    def __getitem__(self, index):
        return self._pairs()[index]

    def __eq__(self, other):
        return list(self) == list(other)

    def __repr__(self):
        return repr(self._pairs())

    cdef list _pairs(self):
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(self.wire)
        return _headers_of(at, at + PyBytes_GET_SIZE(self.wire), self._count)


cdef const char *_HEX = b"0123456789abcdef"


cdef inline uint8_t *_put_pair(uint8_t *at, const char *name, Py_ssize_t name_size, const char *value, Py_ssize_t size) noexcept nogil:
    at = _put_varint(at, name_size)
    memcpy(at, name, <size_t>name_size)
    at = _put_varint(at + name_size, size)
    memcpy(at, value, <size_t>size)
    return at + size


cdef enum:
    _ID_BYTES = 36
    _WIRE_BYTES = 8192
    _PLACE_BYTES = 400


class _TooLong(Exception):
    """Headers that are larger than there is room for."""


ctypedef struct Pairs:
    # Headers that are being written.
    uint8_t *at
    Py_ssize_t size_bytes  # Names and values.
    int count
    uint8_t wire[_WIRE_BYTES]


cdef int _add_pair(
    Pairs *pairs, const char *name, Py_ssize_t name_size, const char *value, Py_ssize_t size
) except -1:
    if name_size + size + 20 > _WIRE_BYTES - (pairs.at - pairs.wire):
        raise _TooLong
    pairs.at = _put_pair(pairs.at, name, name_size, value, size)
    pairs.size_bytes += name_size + size
    pairs.count += 1
    return 0


cdef inline int _add(Pairs *pairs, const char *name, const char *value, Py_ssize_t size) except -1:
    return _add_pair(pairs, name, <Py_ssize_t>strlen(name), value, size)


cdef inline int _add_bytes(Pairs *pairs, const char *name, bytes value) except -1:
    return _add(pairs, name, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))


cdef inline int _add_text(Pairs *pairs, const char *name, object text) except -1:
    cdef Py_ssize_t size
    cdef const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size)
    return _add(pairs, name, utf8, size)


cdef inline void _begin(Pairs *pairs) noexcept:
    pairs.at = pairs.wire
    pairs.size_bytes = pairs.count = 0


cdef inline Py_ssize_t _counted(Pairs *pairs) noexcept:
    """Names, values, and 8 for each, as :func:`edo_stream.core.headers.size_of` counts."""
    return pairs.size_bytes + 8 * pairs.count


cdef WireHeaders _ended(Pairs *pairs):
    cdef WireHeaders headers = WireHeaders.__new__(WireHeaders)
    headers.wire = PyBytes_FromStringAndSize(<const char *>pairs.wire, pairs.at - pairs.wire)
    headers._count = pairs.count
    headers.size_bytes = _counted(pairs)
    return headers


@cython.final
cdef class ResultHeaders:
    """Headers of results; see :meth:`edo_stream.core.outlet.Outlet._headers`."""

    cdef uint32_t _hash[5]
    cdef uint64_t _hashed
    cdef bytes _id_rest, _source, _place
    cdef frozenset _reserved

    def __init__(
        self, bytes id_start not None, bytes source not None, bytes place not None, reserved
    ):
        """``id_start`` is what the hash of each id begins with, up to the offset."""
        cdef Py_ssize_t whole = len(id_start) // 64 * 64, i
        self._hash[0], self._hash[1], self._hash[2] = 0x67452301, 0xEFCDAB89, 0x98BADCFE
        self._hash[3], self._hash[4] = 0x10325476, 0xC3D2E1F0
        for i in range(0, whole, 64):
            edo_sha1_block(self._hash, <Bytes>PyBytes_AS_STRING(id_start) + i)
        self._hashed = <uint64_t>whole
        _require(len(place) <= _PLACE_BYTES, "a place that is too long")
        self._id_rest = id_start[whole:]
        self._source = source
        self._place = place
        self._reserved = frozenset(reserved)

    cdef void _put_id(self, uint8_t *out, int64_t offset) noexcept:
        """The 36 characters of the id of an offset."""
        cdef uint8_t message[96]
        cdef uint8_t hashed[20]
        cdef uint32_t state[5]
        cdef uint8_t *at = message
        cdef Py_ssize_t rest = PyBytes_GET_SIZE(self._id_rest)
        memcpy(at, PyBytes_AS_STRING(self._id_rest), <size_t>rest)
        at = _put_decimal(at + rest, <uint64_t>offset)
        memcpy(state, self._hash, sizeof(state))
        edo_sha1_rest(state, self._hashed, message, <size_t>(at - message), hashed)
        _put_uuid(out, hashed)

    def of(self, int64_t offset, event, bint is_late):
        """Headers of the result of an event at an offset; ``None`` for what is not plain."""
        return self._of(offset, event, is_late) if type(event) is Event else None

    cdef WireHeaders _of(self, int64_t offset, event, bint is_late):
        cdef Pairs pairs
        return _ended(&pairs) if self._put(&pairs, offset, event, is_late) else None

    cdef bint _put(self, Pairs *pairs, int64_t offset, event, bint is_late) except -1:
        """Write them; not for what is not plain."""
        cdef uint8_t text[_PLACE_BYTES + 20]
        cdef Py_ssize_t place_size = PyBytes_GET_SIZE(self._place)
        cdef Py_ssize_t name_size
        cdef bytes value
        _begin(pairs)
        time_text = _field(event, _AT_TIME_TEXT, "time_text")
        if time_text is None and _field(event, _AT_TIME_MS, "time_ms") is not None:
            return False
        event_id = _field(event, _AT_ID, "id")
        correlation_id = _field(event, _AT_CORRELATION_ID, "correlation_id")
        subject = _field(event, _AT_SUBJECT, "subject")
        content_type = _field(event, _AT_CONTENT_TYPE, "content_type")
        try:
            _add(pairs, b"ce_specversion", b"1.0", 3)
            self._put_id(text, offset)
            _add(pairs, b"ce_id", <const char *>text, 36)
            _add_bytes(pairs, b"ce_source", self._source)
            _add_text(pairs, b"ce_type", _field(event, _AT_TYPE, "type"))
            _add_text(
                pairs, b"ce_correlationid", event_id if correlation_id is None else correlation_id
            )
            _add_text(pairs, b"ce_causationid", event_id)
            memcpy(text, PyBytes_AS_STRING(self._place), <size_t>place_size)
            _add(
                pairs,
                b"ce_edoposition",
                <const char *>text,
                _put_decimal(text + place_size, <uint64_t>offset) - text,
            )
            if subject is not None:
                _add_text(pairs, b"ce_subject", subject)
            if time_text is not None:
                _add_bytes(pairs, b"ce_time", time_text)
            if content_type is not None:
                _add_text(pairs, b"content-type", content_type)
            for name, content in _field(event, _AT_EXTENSIONS, "extensions"):
                if name not in self._reserved:
                    # Python counts the characters of a name, and takes a null.
                    if content is None or not name.isascii():
                        return False
                    value = content
                    _add_pair(
                        pairs,
                        PyUnicode_AsUTF8AndSize(name, &name_size),
                        len(name),
                        PyBytes_AS_STRING(value),
                        PyBytes_GET_SIZE(value),
                    )
            if is_late:
                _add(pairs, b"ce_edolate", b"true", 4)
        except (UnicodeEncodeError, _TooLong):
            return False
        return True


cdef inline bint _fits(event, Py_ssize_t headers_bytes, Py_ssize_t bytes_max) except -1:
    """Whether the result of an event is no larger than its topic takes."""
    data = _field(event, _AT_DATA, "data")
    cdef bytes key = _field(event, _AT_KEY, "key")
    return PyBytes_GET_SIZE(key) + (0 if data is None else len(data)) + headers_bytes <= bytes_max


include "_native_writing.pxi"

# -- what an event triggers


cdef uint32_t _murmur2(Bytes at, Py_ssize_t size) noexcept nogil:
    """See :func:`edo_stream.core.partitioner.murmur2`; without the sign."""
    cdef uint32_t h = <uint32_t>0x9747B28C ^ <uint32_t>size, k
    cdef Py_ssize_t i, whole = size & ~<Py_ssize_t>3
    for i in range(0, whole, 4):
        k = <uint32_t>at[i] | <uint32_t>at[i + 1] << 8 | <uint32_t>at[i + 2] << 16 | <uint32_t>at[i + 3] << 24
        k *= <uint32_t>0x5BD1E995
        k ^= k >> 24
        k *= <uint32_t>0x5BD1E995
        h = h * <uint32_t>0x5BD1E995 ^ k
    if size & 3:
        k = 0
        for i in range(size - 1, whole - 1, -1):
            k = k << 8 | at[i]
        h = (h ^ k) * <uint32_t>0x5BD1E995
    h = (h ^ h >> 13) * <uint32_t>0x5BD1E995
    return h ^ h >> 15


cdef inline int64_t _partition_of(bytes key, int64_t partitions) noexcept:
    return <int64_t>(
        _murmur2(<Bytes>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)) & 0x7FFFFFFF
    ) % partitions


cdef inline bint _is_space(uint8_t byte) noexcept nogil:
    return byte == 0x20 or byte == 0x0A or byte == 0x0D or byte == 0x09


cdef Bytes _value_end(Bytes at, Bytes end) noexcept nogil:
    """Behind a value of a document that was found to be plain; ``NULL`` for none."""
    cdef int depth = 0
    while at < end:
        if at[0] == 0x22:
            at = _string_end(at + 1, end)
            if at is NULL:
                return NULL
        elif at[0] == 0x7B or at[0] == 0x5B:
            depth += 1
            at += 1
        elif at[0] == 0x7D or at[0] == 0x5D:
            if depth == 0:
                return at
            depth -= 1
            at += 1
        elif depth == 0 and (at[0] == 0x2C or _is_space(at[0])):
            return at
        else:
            at += 1
            continue
        if depth == 0:
            return at
    return NULL


cdef bint _find_member(Span *place, Bytes name, Py_ssize_t size) noexcept nogil:
    """Go from an object of a plain document to its member; ``False`` for what is not plain."""
    cdef Bytes at = place.at
    cdef Bytes end = at + place.size
    cdef Bytes start
    cdef Bytes close
    cdef Span found
    found.at = NULL
    found.size = 0
    if place.size < 2 or at[0] != 0x7B:
        return False
    at += 1
    while True:
        while at < end and (_is_space(at[0]) or at[0] == 0x2C):
            at += 1
        if at >= end:
            return False
        if at[0] == 0x7D:
            break
        if at[0] != 0x22:
            return False
        start = at + 1
        at = _string_end(start, end)
        if at is NULL or _has_escape(start, at - 1):
            return False
        close = at - 1
        while at < end and (_is_space(at[0]) or at[0] == 0x3A):
            at += 1
        if _is_same(start, close - start, <const char *>name, size):
            if found.at is not NULL:
                return False  # Twice: the last of them counts.
            found.at = at
        at = _value_end(at, end)
        if at is NULL:
            return False
        if found.at is not NULL and found.size == 0:
            found.size = at - found.at
    place[0] = found
    return found.at is not NULL


cdef object _plain_text(Span value):
    """Bytes of a text, or of a whole number; ``None`` for any other value, and for none."""
    cdef Py_ssize_t i
    cdef Bytes digits
    if value.size < 1:
        return None
    if value.at[0] == 0x22:
        if value.size < 3 or _has_escape(value.at, value.at + value.size):
            return None
        return PyBytes_FromStringAndSize(<const char *>value.at + 1, value.size - 2)
    digits = value.at + (1 if value.at[0] == 0x2D else 0)
    for i in range(digits - value.at, value.size):
        if value.at[i] < 0x30 or value.at[i] > 0x39:
            return None
    if digits == value.at + value.size or (digits[0] == 0x30 and value.size > 1):
        return None
    return _bytes_of(value)


cdef enum:
    _KEY_EVENT = 0
    _KEY_POINTER = 3

KEY_IS_EVENT, KEY_IS_POINTER = _KEY_EVENT, _KEY_POINTER

ctypedef struct Look:
    int is_object  # Whether the event's data is a plain JSON object; -1: nobody has looked.
    bint is_alike  # Whether commands of one event differ in their ids and flows only.
    bint has_like  # Whether there are headers of one that others are like.
    Pairs headers
    Py_ssize_t id_at, flow_at, flow_end, flow_bytes  # Where in them they are; the flow's bytes.


cdef bint _is_object(Look *look, object data) except -1:
    if look.is_object < 0:
        look.is_object = data is not None and _is_plain_object(
            <Bytes>PyBytes_AS_STRING(<bytes?>data), PyBytes_GET_SIZE(data)
        )
    return look.is_object


@cython.final
cdef class PlainKey:
    """Reads the key of a command or of a wait, or an event's member, where it is plain."""

    cdef int _place
    cdef list _tokens
    cdef bint _is_shared
    cdef object _event  # The last one, and what was found in it, where others ask as well.
    cdef bytes _found

    def __init__(self, int place, tokens):
        """``tokens`` are those of a pointer."""
        self._place = place
        self._tokens = [token.encode() for token in tokens]

    cdef bytes of(self, record, event, Look *look):
        """The key, or ``None``."""
        if self._place == _KEY_EVENT:
            return _field(event, _AT_KEY, "key") or None
        if self._place == _KEY_RECORD:
            return record.key or None
        if self._place == _KEY_SUBJECT:
            subject = _field(event, _AT_SUBJECT, "subject")
            return subject.encode("utf-8", "replace") if subject else None
        if not self._is_shared:
            return self._pointed(event, look)
        if event is not self._event:
            self._found = self._pointed(event, look)
            self._event = event
        return self._found

    cdef bytes _pointed(self, event, Look *look):
        cdef Span span
        cdef bytes token
        data = _field(event, _AT_DATA, "data")
        if not _is_object(look, data):
            return None
        span.at = <Bytes>PyBytes_AS_STRING(<bytes>data)
        span.size = PyBytes_GET_SIZE(data)
        while span.size and _is_space(span.at[0]):
            span.at += 1
            span.size -= 1
        for token in self._tokens:
            if not _find_member(&span, <Bytes>PyBytes_AS_STRING(token), PyBytes_GET_SIZE(token)):
                return None
        return _plain_text(span)


cdef PlainKey _shared(PlainKey key, dict keys):
    """The first of the keys that are at the same place."""
    cdef PlainKey found = keys.setdefault((key._place, tuple(key._tokens)), key)
    found._is_shared = found._is_shared or found is not key
    return found


@cython.final
cdef class PlainCommand:
    """Commands of a flow that are the event's data as it came.

    See :meth:`edo_stream.core.trigger.Trigger.command`, whose way each ``None`` goes.
    """

    cdef ResultHeaders _ids
    cdef PlainKey _key
    cdef str _topic
    cdef int64_t _partitions
    cdef Py_ssize_t _bytes_max
    cdef bytes _flow
    cdef frozenset _reserved
    cdef object _time_text

    def __init__(
        self,
        ResultHeaders ids not None,
        PlainKey key not None,
        str topic not None,
        int64_t partitions,
        Py_ssize_t bytes_max,
        bytes flow not None,
        reserved,
        time_text,
    ):
        """``ids`` knows cause, source and place; ``bytes_max`` is of key, data and headers."""
        self._ids = ids
        self._key = key
        self._topic = topic
        self._partitions = partitions
        self._bytes_max = bytes_max
        self._flow = flow
        self._reserved = frozenset(reserved)
        self._time_text = time_text

    cdef bint add(
        self, record, event, int64_t offset, int64_t now_ms, Look *look, list publish,
        WireOutput output,
    ) except -1:  # fmt: skip
        """Publish the command of an event, if it is plain."""
        cdef Pairs like
        cdef Pairs *headers = &look.headers
        cdef bytes key = self._key.of(record, event, look)
        if key is None:
            return False
        if look.has_like and self._put_like(&like, offset, look):
            headers = &like
        elif not self._put(offset, event, look):
            return False
        data = _field(event, _AT_DATA, "data")
        if (
            PyBytes_GET_SIZE(key) + (0 if data is None else len(data)) + _counted(headers)
            > self._bytes_max
        ):
            return False
        _publish_data(
            publish, output, self._topic, _partition_of(key, self._partitions), key, data, headers,
            now_ms,
        )
        return True

    cdef bint _is_like(self, PlainCommand other) noexcept:
        """Whether its headers of any event are the other's, but for id and flow."""
        return (
            self._ids._place == other._ids._place and self._ids._source == other._ids._source
            and self._reserved == other._reserved and self._time_text is other._time_text
        )

    cdef bint _put_like(self, Pairs *headers, int64_t offset, Look *look) noexcept:
        """The headers by those of another command of the event; not if they get too long."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self._flow)
        cdef Py_ssize_t rest = look.headers.at - look.headers.wire - look.flow_end
        if look.flow_at + _varint_size(size) + size + rest > _WIRE_BYTES - 20:
            return False
        _begin(headers)
        memcpy(headers.wire, look.headers.wire, <size_t>look.flow_at)
        self._ids._put_id(headers.wire + look.id_at, offset)
        headers.at = _put_varint(headers.wire + look.flow_at, size)
        memcpy(headers.at, PyBytes_AS_STRING(self._flow), <size_t>size)
        headers.at += size
        memcpy(headers.at, look.headers.wire + look.flow_end, <size_t>rest)
        headers.at += rest
        headers.count = look.headers.count
        headers.size_bytes = look.headers.size_bytes + size - look.flow_bytes
        return True

    cdef bint _put(self, int64_t offset, event, Look *look) except -1:
        """Write the headers of a command to where others of the event look; if it is plain."""
        cdef uint8_t text[_PLACE_BYTES + 20]
        cdef Pairs *pairs = &look.headers
        cdef Py_ssize_t id_end, flow_end
        cdef bytes place = self._ids._place
        cdef Py_ssize_t place_size = PyBytes_GET_SIZE(place)
        event_id = _field(event, _AT_ID, "id")
        correlation_id = _field(event, _AT_CORRELATION_ID, "correlation_id")
        subject = _field(event, _AT_SUBJECT, "subject")
        content_type = _field(event, _AT_CONTENT_TYPE, "content_type")
        look.has_like = False
        _begin(pairs)
        try:
            self._ids._put_id(text, offset)
            _add(pairs, b"ce_specversion", b"1.0", 3)
            _add(pairs, b"ce_id", <const char *>text, 36)
            id_end = pairs.at - pairs.wire
            _add_bytes(pairs, b"ce_source", self._ids._source)
            _add_text(pairs, b"ce_type", _field(event, _AT_TYPE, "type"))
            _add_text(pairs, b"ce_correlationid", correlation_id or event_id)
            _add_text(pairs, b"ce_causationid", event_id)
            _add_bytes(pairs, b"edo-flow", self._flow)
            flow_end = pairs.at - pairs.wire
            memcpy(text, PyBytes_AS_STRING(place), <size_t>place_size)
            _add(
                pairs,
                b"edo-position",
                <const char *>text,
                _put_decimal(text + place_size, <uint64_t>offset) - text,
            )
            if subject is not None:
                _add_text(pairs, b"ce_subject", subject)
            if _field(event, _AT_TIME_MS, "time_ms") is not None:
                time = _time_of(event, self._time_text)
                if time is not None:
                    _add_bytes(pairs, b"ce_time", time)
            if content_type is not None:
                _add_text(pairs, b"content-type", content_type)
            for name, content in _field(event, _AT_EXTENSIONS, "extensions"):
                if name not in self._reserved and not name.startswith("edo-"):
                    if content is None or not name.isascii():
                        return False
                    _add_pair(
                        pairs,
                        PyUnicode_AsUTF8AndSize(name, &place_size),
                        len(name),
                        PyBytes_AS_STRING(<bytes?>content),
                        PyBytes_GET_SIZE(content),
                    )
        except (UnicodeEncodeError, _TooLong):
            return False
        look.id_at = id_end - _ID_BYTES
        look.flow_bytes = PyBytes_GET_SIZE(self._flow)
        look.flow_at = flow_end - look.flow_bytes - _varint_size(look.flow_bytes)
        look.flow_end = flow_end
        look.has_like = look.is_alike
        return True


cdef object _time_of(event, time_text):
    """Text of an event's time as our own records have it."""
    text = _field(event, _AT_TIME_TEXT, "time_text")
    time_ms = _field(event, _AT_TIME_MS, "time_ms")
    if type(text) is bytes and PyBytes_GET_SIZE(text) == _TIME_BYTES:
        if _written_ms(<Bytes>PyBytes_AS_STRING(text)) == time_ms:
            return text
    return time_text(time_ms)


# -- msgpack, as the core's rows and records have it


cdef inline uint8_t *_put_big(uint8_t *at, uint64_t number, int size) noexcept nogil:
    cdef int i
    for i in range(size):
        at[i] = <uint8_t>(number >> 8 * (size - 1 - i))
    return at + size


cdef uint8_t *_put_uint(uint8_t *at, uint64_t number) noexcept nogil:
    if number < 0x80:
        at[0] = <uint8_t>number
        return at + 1
    if number <= 0xFF:
        at[0] = 0xCC
        return _put_big(at + 1, number, 1)
    if number <= 0xFFFF:
        at[0] = 0xCD
        return _put_big(at + 1, number, 2)
    if number >> 32 == 0:
        at[0] = 0xCE
        return _put_big(at + 1, number, 4)
    at[0] = 0xCF
    return _put_big(at + 1, number, 8)


cdef uint8_t *_put_str(uint8_t *at, const char *text, Py_ssize_t size) noexcept nogil:
    if size < 32:
        at[0] = <uint8_t>(0xA0 | size)
        at += 1
    elif size <= 0xFF:
        at[0] = 0xD9
        at = _put_big(at + 1, <uint64_t>size, 1)
    elif size <= 0xFFFF:
        at[0] = 0xDA
        at = _put_big(at + 1, <uint64_t>size, 2)
    else:
        at[0] = 0xDB
        at = _put_big(at + 1, <uint64_t>size, 4)
    memcpy(at, text, <size_t>size)
    return at + size


cdef uint8_t *_put_bin(uint8_t *at, const char *data, Py_ssize_t size) noexcept nogil:
    if size <= 0xFF:
        at[0] = 0xC4
        at = _put_big(at + 1, <uint64_t>size, 1)
    elif size <= 0xFFFF:
        at[0] = 0xC5
        at = _put_big(at + 1, <uint64_t>size, 2)
    else:
        at[0] = 0xC6
        at = _put_big(at + 1, <uint64_t>size, 4)
    memcpy(at, data, <size_t>size)
    return at + size


cdef inline uint8_t *_put_of(uint8_t *at, bytes text) noexcept:
    memcpy(at, PyBytes_AS_STRING(text), <size_t>PyBytes_GET_SIZE(text))
    return at + PyBytes_GET_SIZE(text)


ctypedef struct Text:
    const char *at
    Py_ssize_t size  # -1: none.


cdef int _read_text(object text, Text *found) except -1:
    found.at = NULL
    found.size = -1
    if text is not None:
        found.at = PyUnicode_AsUTF8AndSize(text, &found.size)
    return 0


cdef inline uint8_t *_put_text(uint8_t *at, Text text) noexcept nogil:
    if text.size < 0:
        at[0] = 0xC0
        return at + 1
    return _put_str(at, text.at, text.size)


cdef uint8_t *_scratch_at = NULL
cdef Py_ssize_t _scratch_room = 0


cdef uint8_t *_scratch(Py_ssize_t room) except NULL:
    """Room for a text that is being made, until the next is asked for."""
    global _scratch_at, _scratch_room
    cdef uint8_t *grown
    if room > _scratch_room:
        grown = <uint8_t *>realloc(_scratch_at, <size_t>(2 * room))
        if grown is NULL:
            raise MemoryError
        _scratch_at = grown
        _scratch_room = 2 * room
    return _scratch_at


cdef enum:
    _JOINED_KEY_BYTES = 1024
    _JOINED_TEXTS = 7
    _JOINED_ROOM = 96


@cython.final
cdef class PlainFeed:
    """Records by which events come to the task of their wait.

    See :meth:`edo_stream.core.correlation.feed.Feed.command`, whose way each ``None`` goes.
    """

    cdef PlainKey _key, _member
    cdef str _topic
    cdef int64_t _partitions
    cdef Py_ssize_t _bytes_max
    cdef bytes _place, _start, _end

    def __init__(
        self,
        PlainKey key not None,
        PlainKey member,
        str topic not None,
        int64_t partitions,
        Py_ssize_t bytes_max,
        bytes place not None,
        bytes start not None,
        bytes end not None,
    ):
        """``place``: where events are; ``start`` and ``end``: what is the same in all values.

        ``end`` begins with how no member is packed, a byte; ``member`` is ``None`` where events
        have none.
        """
        _require(len(place) <= _PLACE_BYTES, "a place that is too long")
        self._key = key
        self._member = member
        self._topic = topic
        self._partitions = partitions
        self._bytes_max = bytes_max
        self._place = place
        self._start = start
        self._end = end

    cdef bint add(
        self, record, event, int64_t offset, int64_t now_ms, Look *look, list publish,
        WireOutput output,
    ) except -1:  # fmt: skip
        """Publish the record for an event, if it is plain."""
        cdef bytes key = self._key.of(record, event, look), member = None
        cdef int64_t timestamp_ms
        cdef uint8_t *value
        cdef Py_ssize_t size = 0
        if type(record) is FetchedRecord:
            timestamp_ms = (<FetchedRecord>record).timestamp
        else:
            timestamp_ms = record.timestamp
        if key is None or PyBytes_GET_SIZE(key) > _JOINED_KEY_BYTES:
            return False
        if timestamp_ms < 0 or timestamp_ms > now_ms:
            return False
        if self._member is not None:
            member = self._member.of(record, event, look)
            if member is None or PyBytes_GET_SIZE(member) > _JOINED_KEY_BYTES:
                return False
            if not _is_ascii(<Bytes>PyBytes_AS_STRING(member), PyBytes_GET_SIZE(member)):
                return False
        value = self._value(event, offset, member, look, &size)
        if value is NULL or PyBytes_GET_SIZE(key) + size > self._bytes_max:
            return False
        _publish(
            publish, output, self._topic, _partition_of(key, self._partitions), key,
            <const char *>value, size, NULL, timestamp_ms,
        )
        return True

    cdef uint8_t *_value(
        self, event, int64_t offset, bytes member, Look *look, Py_ssize_t *size
    ) except? NULL:
        """The value, until another is made; ``NULL`` for what is not plain."""
        cdef Text texts[_JOINED_TEXTS]
        cdef uint8_t place[_PLACE_BYTES + 20]
        cdef Py_ssize_t place_size = PyBytes_GET_SIZE(self._place)
        cdef Py_ssize_t end_size = PyBytes_GET_SIZE(self._end)
        cdef Py_ssize_t room = PyBytes_GET_SIZE(self._start) + place_size + end_size + _JOINED_ROOM
        cdef int64_t time_ms = 0
        cdef uint8_t *at
        cdef int i
        data = _field(event, _AT_DATA, "data")
        if data is not None and not _is_object(look, data):
            return NULL
        time = _field(event, _AT_TIME_MS, "time_ms")
        if time is not None:
            time_ms = time
            if time_ms < 0:
                return NULL
        try:
            _read_text(_field(event, _AT_ID, "id"), &texts[0])
            _read_text(_field(event, _AT_SOURCE, "source"), &texts[1])
            _read_text(_field(event, _AT_TYPE, "type"), &texts[2])
            _read_text(_field(event, _AT_SUBJECT, "subject"), &texts[3])
            _read_text(_field(event, _AT_CORRELATION_ID, "correlation_id"), &texts[4])
            _read_text(_field(event, _AT_CONTENT_TYPE, "content_type"), &texts[5])
        except UnicodeEncodeError:
            return NULL
        for i in range(6):
            room += 5 + max(texts[i].size, 0)
        if member is not None:
            room += 5 + PyBytes_GET_SIZE(member)
        memcpy(place, PyBytes_AS_STRING(self._place), <size_t>place_size)
        place_size = _put_decimal(place + place_size, <uint64_t>offset) - place
        room += 0 if data is None else PyBytes_GET_SIZE(<bytes>data)
        at = _scratch(room)
        cdef uint8_t *buffer = at
        memcpy(at, PyBytes_AS_STRING(self._start), <size_t>PyBytes_GET_SIZE(self._start))
        at += PyBytes_GET_SIZE(self._start)
        for i in range(3):
            at = _put_text(at, texts[i])
        at = _put_str(at, <const char *>place, place_size)
        if data is None:
            at[0] = 0xC0
            at += 1
        else:
            at = _put_bin(at, PyBytes_AS_STRING(<bytes>data), PyBytes_GET_SIZE(data))
        at[0] = 0xC2 if data is None else 0xC3
        at += 1
        if time is None:
            at[0] = 0xC0
            at += 1
        else:
            at = _put_uint(at, <uint64_t>time_ms)
        for i in range(3, 6):
            at = _put_text(at, texts[i])
        if member is None:
            at = _put_of(at, self._end)
        else:
            at = _put_str(at, PyBytes_AS_STRING(member), PyBytes_GET_SIZE(member))
            memcpy(at, PyBytes_AS_STRING(self._end) + 1, <size_t>end_size - 1)
            at += end_size - 1
        size[0] = at - buffer
        return buffer


@cython.final
cdef class PlainRouter:
    """Writes what an event triggers; see :meth:`edo_stream.core.routing.Router.commands`.

    What depends on an event's type alone is asked once a type; whatever is not plain is made by
    the trigger in Python.
    """

    cdef list _triggers, _writers
    cdef tuple _always
    cdef object _choose, _facts_of
    cdef dict _by_type
    cdef bint _is_alike  # Commands of one event differ in their ids and flows only.

    def __init__(self, triggers, writers, always, choose, facts_of):
        """``writers`` are the triggers' own, ``None`` for Python; ``choose`` tells by the type."""
        cdef dict keys = {}
        self._triggers = list(triggers)
        self._writers = list(writers)
        commands = [writer for writer in self._writers if type(writer) is PlainCommand]
        self._is_alike = all(
            [(<PlainCommand>commands[0])._is_like(<PlainCommand>other) for other in commands]
        )
        for writer in self._writers:
            if type(writer) is PlainCommand:
                (<PlainCommand>writer)._key = _shared((<PlainCommand>writer)._key, keys)
            elif type(writer) is PlainFeed:
                (<PlainFeed>writer)._key = _shared((<PlainFeed>writer)._key, keys)
                if (<PlainFeed>writer)._member is not None:
                    (<PlainFeed>writer)._member = _shared((<PlainFeed>writer)._member, keys)
        self._always = tuple(always)
        self._choose = choose
        self._facts_of = facts_of
        self._by_type = {}

    def commands(self, record, event, int64_t now_ms):
        """The records that an event leads to."""
        cdef list found = []
        self.add(record, event, record.offset, now_ms, found, None)
        return found

    cdef tuple _chosen(self, event):
        cdef PyObject *known
        if self._choose is None:
            return self._always
        kind = event.type
        known = PyDict_GetItem(self._by_type, kind)
        if known is not NULL:
            return <tuple>known
        chosen = self._always + tuple(self._choose(self._facts_of(event)))
        if len(kind) > _KEPT_BYTES:
            return chosen
        if len(self._by_type) >= 4096:
            self._by_type.clear()
        self._by_type[kind] = chosen
        return chosen

    cdef int add(
        self, record, event, int64_t offset, int64_t now_ms, list publish, WireOutput output
    ) except -1:  # fmt: skip
        """Publish them."""
        cdef Look look
        cdef bint is_plain = type(event) is Event, is_made
        look.is_object = -1
        look.is_alike = self._is_alike
        look.has_like = False
        if is_plain and type(record) is FetchedRecord and (<FetchedRecord>record)._is_object:
            # As it was decoded, unless it has been cast since.
            if _field(event, _AT_DATA, "data") is (<FetchedRecord>record).value:
                look.is_object = 1
        facts = None
        for number in self._chosen(event):
            writer = self._writers[<Py_ssize_t>number]
            is_made = False
            if not is_plain:
                pass
            elif type(writer) is PlainCommand:
                is_made = (<PlainCommand>writer).add(
                    record, event, offset, now_ms, &look, publish, output
                )
            elif type(writer) is PlainFeed:
                is_made = (<PlainFeed>writer).add(
                    record, event, offset, now_ms, &look, publish, output
                )
            if is_made:
                continue
            if facts is None:
                facts = self._facts_of(event)
            publish.extend(
                self._triggers[<Py_ssize_t>number].commands(record, event, now_ms, facts)
            )
        return 0


# -- timers, as :mod:`edo_stream.core.timers` has them


cdef bytes _timer_row(bytes prefix, int64_t due_ms, bytes name):
    cdef Py_ssize_t start = PyBytes_GET_SIZE(prefix), size = PyBytes_GET_SIZE(name)
    cdef bytes row = PyBytes_FromStringAndSize(NULL, start + 8 + size)
    cdef uint8_t *at = _put_of(<uint8_t *>PyBytes_AS_STRING(row), prefix)
    _put_of(_put_big(at, <uint64_t>due_ms, 8), name)
    return row


cdef int _turn_timer(set more, set less, bytes row) except -1:
    """Set or clear: what was done the other way in the same step leaves no trace."""
    if row in less:
        less.remove(row)
    else:
        more.add(row)
    return 0


include "_native_order.pxi"

# -- the plain way of an event


@cython.final
cdef class PlainWay:
    """Takes events that are new, have their turn or wait for it, and are of no further concern.

    Doubles it counts.

    It does what :meth:`edo_stream.core.pipeline.Pipeline._read_part` does for them, through
    ``Ids.admit``, ``Resequencer.place``, ``Outlet.emit`` and ``Ledger.mark``; at the first event
    that is not such a one it stops, before it has changed anything for it.
    """

    cdef ResultHeaders _headers
    cdef str _topic
    cdef int64_t _partition
    cdef object _emitted, _held, _duplicate
    cdef Py_ssize_t _bytes_max
    cdef bytes _redrive
    cdef PlainOrder _order
    cdef object _router
    cdef readonly int64_t stream_ms
    cdef readonly int64_t written_bytes

    def __init__(
        self,
        ResultHeaders headers not None,
        str topic not None,
        int partition,
        fates not None,
        bytes redrive not None,
        Py_ssize_t bytes_max,
        PlainOrder order,
        router,
    ):
        """``fates`` are of what goes on, of what is held, and of a double without ``redrive``.

        ``order`` is ``None`` where keys have no numbers.

        ``router`` writes what an event triggers besides; ``None``: nothing.
        """
        self._headers = headers
        self._topic = topic
        self._partition = partition
        self._emitted, self._held, self._duplicate = fates
        self._redrive = redrive
        self._bytes_max = bytes_max
        self._order = order
        self._router = router

    def take(
        self,
        records,
        list judged not None,
        list digests not None,
        list known not None,
        Py_ssize_t start,
        int64_t now_ms,
        int64_t stream_ms,
        int64_t ahead_ms,
        int64_t until_ms,
        expiry_s,
        dict fresh,
        list of_expiry,
        list offsets not None,
        list fates not None,
        list times_ms not None,
        int64_t last_offset,
        list publish not None,
        WireOutput output,
        Py_ssize_t written_max,
        int64_t written_bytes_max,
        source,
    ):
        """Take events from ``start`` on; the index of the first that was not taken.

        Stream time as it is then is in ``stream_ms``. ``fresh`` is ``None`` without dedupe;
        ``last_offset`` is below the first offset that may be marked. With as much as
        ``written_max`` records in ``publish`` and ``output``, or ``written_bytes_max`` written
        here, it ends; what was written here is in ``written_bytes``. ``source`` counts what is
        held.
        """
        cdef Py_ssize_t index, end = len(judged)
        cdef int64_t timestamp, offset, known_s
        cdef int turn = _NEXT
        cdef Pairs headers
        cdef PyObject *found
        cdef bytes key, seen
        self.stream_ms = stream_ms
        self.written_bytes = 0
        if output is not None:
            output._look(publish)
        for index in range(start, end):
            event = judged[index]
            record = records[index]
            if type(record) is FetchedRecord:
                timestamp = (<FetchedRecord>record).timestamp
                offset = (<FetchedRecord>record).offset
            else:
                timestamp = record.timestamp
                offset = record.offset
            if timestamp > self.stream_ms and self.stream_ms < ahead_ms:
                self.stream_ms = min(timestamp, ahead_ms)
            if type(event) is not Event or timestamp < 0 or timestamp > now_ms:
                return index
            digest = digests[index]
            if fresh is not None:
                if self.stream_ms >= until_ms or not digest:
                    return index
                found = PyDict_GetItem(fresh, digest)
                seen = known[index]
                if found is not NULL or seen is not None:
                    if found is not NULL:
                        known_s = <object>found
                    else:
                        if PyBytes_GET_SIZE(seen) != 4:
                            return index
                        known_s = _big(<Bytes>PyBytes_AS_STRING(seen), 4)
                    if known_s * 1000 <= self.stream_ms or offset <= last_offset:
                        return index
                    # One that an operator has sent again may go on all the same.
                    if type(record) is not FetchedRecord:
                        return index
                    if self._redrive in (<FetchedRecord>record)._wire:
                        return index
                    last_offset = offset
                    offsets.append(offset)
                    fates.append(self._duplicate)
                    continue
            elif digest:
                return index
            key = _field(event, _AT_KEY, "key")
            if self._order is not None:
                turn = self._order.turn_of(event, key, self.stream_ms)
            if turn == _NOT_PLAIN or offset <= last_offset:
                return index
            if turn == _LATER:
                if not self._order.can_hold(record, source):
                    return index
            else:
                if not self._headers._put(&headers, offset, event, False):
                    return index
                if not _fits(event, _counted(&headers), self._bytes_max):
                    return index
                if turn == _AWAITED and not self._order.can_release(
                    self._headers, self._bytes_max, offsets, now_ms
                ):
                    return index
            # From here on it is taken.
            last_offset = offset
            if fresh is not None:
                fresh[digest] = expiry_s
                of_expiry.append(digest)
            offsets.append(offset)
            if turn == _LATER:
                fates.append(self._held)
                self._order.hold(record, event, source, now_ms, self.stream_ms)
                continue
            fates.append(self._emitted)
            self._emit(
                record, event, &headers, timestamp, offset, now_ms, publish, output, times_ms
            )
            if turn == _AWAITED:
                self._release(source, now_ms, fates, publish, output, times_ms)
            elif self._order is not None:
                self._order.pass_by(self.stream_ms)
            if self.written_bytes >= written_bytes_max:
                return index + 1
            if len(publish) + (0 if output is None else output.count) >= written_max:
                return index + 1
        return end

    cdef int _release(
        self, source, int64_t now_ms, list fates, list publish, WireOutput output, list times_ms
    ) except -1:
        """Let go on what has its turn behind an event."""
        cdef FetchedRecord record
        cdef Pairs headers
        cdef Py_ssize_t place
        cdef list ready = self._order.ready()
        for _, _, place, record, event in ready:
            self._headers._put(&headers, record.offset, event, False)
            self._emit(
                record, event, &headers, record.timestamp, record.offset, now_ms, publish, output,
                times_ms,
            )
            fates[place] = self._emitted
        self._order.advance(ready, source, self.stream_ms)
        return 0

    cdef int _emit(
        self,
        record,
        event,
        Pairs *headers,
        int64_t timestamp,
        int64_t offset,
        int64_t now_ms,
        list publish,
        WireOutput output,
        list times_ms,
    ) except -1:
        """Publish an event's result, and what it triggers."""
        cdef Py_ssize_t before = len(publish)
        cdef int64_t size = 0 if output is None else output.size_bytes
        time_ms = _field(event, _AT_TIME_MS, "time_ms")
        _publish_data(
            publish, output, self._topic, self._partition, _field(event, _AT_KEY, "key"),
            _field(event, _AT_DATA, "data"), headers, timestamp,
        )
        if self._router is not None:
            if type(self._router) is PlainRouter:
                (<PlainRouter>self._router).add(record, event, offset, now_ms, publish, output)
            else:
                publish.extend(self._router.commands(record, event, now_ms))
        if len(publish) > before:
            self.written_bytes += _bytes_since(publish, before)
        if output is not None:
            self.written_bytes += output.size_bytes - size
        times_ms.append(timestamp if time_ms is None else time_ms)
        return 0


cdef int64_t _bytes_since(list publish, Py_ssize_t start) except -1:
    """Bytes of keys and values of what was published from a place on."""
    cdef int64_t size = 0
    cdef Py_ssize_t index
    for index in range(start, len(publish)):
        item = publish[index]
        key = _field(item, _ITEM_KEY, "key")
        value = _field(item, _ITEM_VALUE, "value")
        size += (0 if key is None else len(key)) + (0 if value is None else len(value))
    return size


include "_native_waits.pxi"


# -- accounts


def runs_of(list offsets not None, list fates not None, make):
    """See :func:`edo_stream.core.accounts.runs_of`; ``make`` makes a run of offset, length, fate."""
    cdef Py_ssize_t i, count = len(offsets)
    cdef int64_t start, expected, offset
    cdef list runs = []
    assert len(fates) == count
    if count == 0:
        return ()
    fate = fates[0]
    start = expected = offsets[0]
    for i in range(count):
        offset = offsets[i]
        if offset != expected or fates[i] is not fate:
            runs.append(make(start, expected - start, fate._value_))
            start = offset
            fate = fates[i]
        expected = offset + 1
    runs.append(make(start, expected - start, fate._value_))
    return tuple(runs)


# -- frames


@cython.final
cdef class Frame:
    """Bytes of a known number that come piece by piece: written where they stay.

    Written to as a buffer; whoever takes them has let go of all views of it.
    """

    cdef bytes _content
    cdef Py_ssize_t _views

    def __cinit__(self, Py_ssize_t size):
        self._content = PyBytes_FromStringAndSize(NULL, size)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self._content is None:
            raise BufferError("taken")
        PyBuffer_FillInfo(
            view, self, PyBytes_AS_STRING(self._content), PyBytes_GET_SIZE(self._content), False,
            flags,
        )
        self._views += 1

    def __releasebuffer__(self, Py_buffer *view):
        self._views -= 1

    def take(self):
        """The bytes, which nobody can write to any more."""
        if self._views or self._content is None:
            raise BufferError("written to still, or taken")
        content, self._content = self._content, None
        return content


# -- ids in memory

cdef extern from *:
    """
    /* Not to be foreseen from outside: ids that all meet in one place would cost more and more. */
    static uint64_t edo_seed(void *at) {
        uint64_t seed = (uint64_t)(uintptr_t)at ^ ((uint64_t)(uintptr_t)PyErr_NoMemory << 17);
        seed = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9ULL;
        seed = (seed ^ (seed >> 27)) * 0x94D049BB133111EBULL;
        return (seed ^ (seed >> 31)) | 1;
    }
    """
    uint64_t edo_seed(void *at)

cdef size_t _SLOTS_MIN = 1024


@cython.final
cdef class IdSet:
    """Ids and when they expire; see :class:`edo_stream.core.known_ids.IdsInPython`.

    A hash table with open addressing. A place whose expiry is 0 is free.
    """

    cdef uint8_t *_digests
    cdef uint32_t *_expiries
    cdef size_t _slots, _count
    cdef uint64_t _seed

    def __cinit__(self):
        self._seed = edo_seed(<void *>self)
        self._resize(_SLOTS_MIN)

    def __dealloc__(self):
        free(self._digests)
        free(self._expiries)

    def __len__(self):
        return self._count

    cdef inline size_t _home(self, const uint8_t *digest) noexcept:
        cdef uint64_t one, two
        memcpy(&one, digest, 8)
        memcpy(&two, digest + 8, 8)
        one = (one ^ (two * 0x9E3779B97F4A7C15ULL)) * self._seed
        return <size_t>(one ^ (one >> 32)) & (self._slots - 1)

    cdef inline size_t _find(self, const uint8_t *digest) noexcept:
        """Where it is, or else the free place for it."""
        cdef size_t at = self._home(digest)
        while self._expiries[at] and memcmp(self._digests + at * 16, digest, 16):
            at = (at + 1) & (self._slots - 1)
        return at

    cdef int _resize(self, size_t slots) except -1:
        cdef uint8_t *digests = self._digests
        cdef uint32_t *expiries = self._expiries
        cdef size_t at, to, before = self._slots
        cdef uint8_t *new_digests = <uint8_t *>malloc(slots * 16)
        cdef uint32_t *new_expiries = <uint32_t *>calloc(slots, 4)
        if new_digests is NULL or new_expiries is NULL:
            free(new_digests)
            free(new_expiries)
            raise MemoryError
        self._digests, self._expiries, self._slots = new_digests, new_expiries, slots
        for at in range(before):
            if expiries[at]:
                to = self._find(digests + at * 16)
                memcpy(new_digests + to * 16, digests + at * 16, 16)
                new_expiries[to] = expiries[at]
        free(digests)
        free(expiries)
        return 0

    def add(self, bytes record not None):
        """Remember the ids of a record."""
        cdef const uint8_t *digest = <const uint8_t *>PyBytes_AS_STRING(record)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(record)
        cdef size_t more, slots = self._slots, to
        cdef uint32_t expiry
        if size < 4 or (size - 4) % 16:
            raise ValueError("expected an expiry and digests of 16 bytes")
        expiry = max(<uint32_t>_big(<Bytes>PyBytes_AS_STRING(record), 4), <uint32_t>1)
        more = <size_t>((size - 4) // 16)
        while (self._count + more) * 4 > slots * 3:
            slots *= 2
        if slots != self._slots:
            self._resize(slots)
        digest += 4
        for _ in range(more):
            to = self._find(digest)
            if not self._expiries[to]:
                memcpy(self._digests + to * 16, digest, 16)
                self._count += 1
            self._expiries[to] = expiry
            digest += 16

    def remove(self, bytes record not None):
        """Forget the ids of a record, but for those that a later one has remembered again."""
        cdef const uint8_t *digest = <const uint8_t *>PyBytes_AS_STRING(record)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(record)
        cdef size_t at, slots
        cdef uint32_t expiry
        if size < 4 or (size - 4) % 16:
            raise ValueError("expected an expiry and digests of 16 bytes")
        expiry = max(<uint32_t>_big(<Bytes>PyBytes_AS_STRING(record), 4), <uint32_t>1)
        digest += 4
        for _ in range((size - 4) // 16):
            at = self._find(digest)
            if self._expiries[at] == expiry:
                self._free(at)
            digest += 16
        slots = self._slots
        while slots > _SLOTS_MIN and self._count * 8 < slots:
            slots //= 2
        if slots != self._slots:
            self._resize(slots)

    cdef void _free(self, size_t at) noexcept:
        """Empty a place, and move up what would not be found behind it any more."""
        cdef size_t last = self._slots - 1, to = at, home
        while True:
            to = (to + 1) & last
            if not self._expiries[to]:
                break
            home = self._home(self._digests + to * 16)
            # Whether its home lies behind the free place, up to where it is: then it stays.
            if ((to - home) & last) < ((to - at) & last):
                continue
            memcpy(self._digests + at * 16, self._digests + to * 16, 16)
            self._expiries[at] = self._expiries[to]
            at = to
        self._expiries[at] = 0
        self._count -= 1

    def recall(self, list digests not None):
        """Expiries of digests; ``None`` for what is not known."""
        cdef list found = []
        cdef bytes digest
        cdef uint8_t expiry[4]
        cdef uint32_t known
        for item in digests:
            digest = item
            known = 0
            if PyBytes_GET_SIZE(digest) == 16:
                known = self._expiries[self._find(<const uint8_t *>PyBytes_AS_STRING(digest))]
            if not known:
                found.append(None)
                continue
            expiry[0], expiry[1] = <uint8_t>(known >> 24), <uint8_t>(known >> 16)
            expiry[2], expiry[3] = <uint8_t>(known >> 8), <uint8_t>known
            found.append(PyBytes_FromStringAndSize(<const char *>expiry, 4))
        return found
