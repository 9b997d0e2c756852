"""Input and output tables of functions: maps the input tables into memory, and writes the returned
table.

A table is an Arrow IPC file whose bytes can be spread over several files. *Extents* describe the
table: `(offset in the table, length, file, offset in the file)`. Several threads write a returned
table to a new file. Buffers of the table that are in the files of the inputs are referenced instead
of written.
"""

import bisect
import ctypes
import mmap
import os
import queue
import struct
import threading

BLOCK_BYTES = 8 << 20  # A multiple of the huge page size: the kernel need not zero the pages first.
THREADS_MAX = 4
REFERRED_BYTES_MIN = 64 << 10  # Copying a smaller buffer is faster than mapping it.
REFERRED_TIMES_MAX = 4
PIECES_MAX = 1000  # Maximum number of buffers of one `pwritev` call.
GAP_BYTES_MAX = 1 << 20  # Regions of a file with a smaller gap are mapped as one.
EXTENTS_MAX = 900
PAGE = mmap.PAGESIZE
HUGE_PAGE = 2 << 20
OWN = -1  # The number of the file that the function itself writes.


class Mapped:
    """A memory mapping of a table's extents. It is unmapped when the last buffer in the mapping is
    dropped."""

    def __init__(self, size, extents, files):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [
            ctypes.c_long
        ]
        self.size = size
        reserved = size + HUGE_PAGE
        start = self._map(None, reserved, mmap.MAP_ANONYMOUS | 0x4000, -1, 0)  # MAP_NORESERVE
        self._reserved = (start, reserved)
        self.address = -(-start // HUGE_PAGE) * HUGE_PAGE
        for at, length, file, offset in extents:
            self._map(self.address + at, length, mmap.MAP_PRIVATE | 0x10, files[file], offset)

    def _map(self, address, length, flags, file, offset):
        flags |= mmap.MAP_PRIVATE
        found = self._libc.mmap(address, length, mmap.PROT_READ, flags, file, offset)
        if found in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return found

    def __del__(self):
        if hasattr(self, "_reserved"):
            start, length = self._reserved
            self._libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(length))


class Inputs:
    """The files of the input tables, and the addresses at which they are mapped."""

    def __init__(self, files, shared):
        self._files = files
        self._shared = shared
        self._regions = []
        self._held = []  # Keeps the mappings, because addresses identify buffers.

    def open(self, size, extents):
        """Returns a table that is mapped from its files. Nothing is copied, and pages are read on
        access."""
        import pyarrow

        # Extents can have any layout that the server accepts. A single extent at the start of a
        # file is mapped directly.
        if len(extents) == 1 and extents[0] == [0, size, extents[0][2], 0]:
            # The mapping is private, because kernels before 6.7 reject shared mappings of sealed
            # files.
            descriptor = self._files[extents[0][2]]
            mapped = mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
            buffer = pyarrow.py_buffer(mapped)
        else:
            mapped = Mapped(size, extents, self._files)
            buffer = pyarrow.foreign_buffer(mapped.address, size, mapped)
        for at, length, file, offset in extents:
            if self._shared[file]:
                self._regions.append((buffer.address + at, length, file, offset))
        self._regions.sort()
        self._held.append(buffer)
        return pyarrow.ipc.open_file(buffer).read_all()

    def close(self):
        """Closes the files. Mappings stay valid."""
        for descriptor in self._files:
            os.close(descriptor)
        self._files = []

    def find(self, address, length):
        """Returns the extent, file and offset of a memory range; None if no file contains the
        range."""
        index = bisect.bisect_right(self._regions, (address, 1 << 62, 0, 0)) - 1
        if index < 0:
            return None
        start, size, file, offset = self._regions[index]
        if address + length > start + size or (offset + address - start) % 8:
            return None
        return index, file, offset + address - start


class Writer:
    """Writes buffers sequentially, in blocks of whole huge pages, with several threads."""

    def __init__(self, descriptor, threads):
        self._descriptor = descriptor
        self._pieces = []
        self._gathered = 0
        self.position = 0
        self._failed = []
        self._blocks = queue.Queue(2)
        self._threads = [threading.Thread(target=self._write_blocks) for _ in range(threads)]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def write(self, data, length):
        view, done = memoryview(data), 0
        while done < length:
            part = min(length - done, BLOCK_BYTES - (self.position + self._gathered) % BLOCK_BYTES)
            self._pieces.append(view[done : done + part])
            self._gathered += part
            done += part
            full = (self.position + self._gathered) % BLOCK_BYTES == 0
            if full or len(self._pieces) == PIECES_MAX:
                self._send()

    def _send(self):
        if not self._gathered:
            return
        block = (self._pieces, self.position)
        self.position += self._gathered
        self._pieces, self._gathered = [], 0
        if self._failed:
            raise self._failed[0]
        if self._threads:
            self._blocks.put(block)
        else:
            self._write(*block)

    def _write_blocks(self):
        while True:
            block = self._blocks.get()
            if block is None:
                return
            try:
                if not self._failed:
                    self._write(*block)
            except BaseException as error:
                self._failed.append(error)
            del block

    def _write(self, pieces, position):
        while pieces:
            written = os.pwritev(self._descriptor, pieces, position)
            position += written
            while pieces and written >= len(pieces[0]):
                written -= len(pieces[0])
                pieces = pieces[1:]
            if written:
                pieces = [pieces[0][written:], *pieces[1:]]

    def finish(self):
        """Waits until all writes are complete."""
        try:
            self._send()
        finally:
            for _ in self._threads:
                self._blocks.put(None)
            for thread in self._threads:
                thread.join()
        if self._failed:
            raise self._failed[0]


class Sink:
    """The output stream of Arrow's IPC writer. Records buffers in an input's file as references,
    and writes all other bytes to a new file, without gaps."""

    closed = False

    def __init__(self, writer, inputs):
        self._writer = writer
        self._inputs = inputs
        self._position = 0
        self._own = 0
        self._skip = False
        self.moves = [(0, 0)]  # Pairs: position in the IPC stream, position in the new file.
        self.small = {}
        self.referred = {}

    def write(self, data):
        is_buffer = not isinstance(data, (bytes, bytearray, memoryview))
        length = data.size if is_buffer else len(data)
        found = None
        if is_buffer and length >= REFERRED_BYTES_MIN:
            found = self._inputs.find(data.address, length)
        if found is not None:
            self.referred[self._position] = (*found, length)
            self._skip = True
        elif self._skip and not is_buffer and self._position % 8:
            pass  # Do not write the padding of a referenced buffer.
        else:
            if self._skip:
                self.moves.append((self._position, self._own))
                self._skip = False
            if not is_buffer:
                data = bytes(data)
                self.small[self._own] = data
            self._writer.write(data, length)
            self._own += length
        self._position += length
        return length

    def own(self, position):
        """Converts a position in the IPC stream to a position in the new file."""
        start, own = self.moves[bisect.bisect_right(self.moves, (position, 1 << 62)) - 1]
        return own + position - start

    @property
    def own_bytes(self):
        return self._own

    def tell(self):
        return self._position

    def flush(self):
        pass

    def close(self):
        self.closed = True

    def readable(self):
        return False

    def writable(self):
        return True

    def seekable(self):
        return False


class FlatBuffer:
    """A minimal FlatBuffers reader, which can overwrite numbers of a message."""

    def __init__(self, data):
        self.data = bytearray(data)

    def number(self, kind, at):
        return struct.unpack_from("<" + kind, self.data, at)[0]

    def put(self, at, number):
        struct.pack_into("<q", self.data, at, number)

    def follow(self, at):
        return at + self.number("I", at)

    def field(self, table, index):
        """Returns the position of a table's field; None if the field has its default value."""
        fields = table - self.number("i", table)
        if 4 + 2 * index >= self.number("H", fields):
            return None
        offset = self.number("H", fields + 4 + 2 * index)
        return table + offset if offset else None

    def vector(self, table, index):
        """Returns the position and length of a vector."""
        field = self.field(table, index)
        if field is None:
            return 0, 0
        start = self.follow(field)
        return start + 4, self.number("I", start)


def up(number, grain):
    return -(-number // grain) * grain


class TooManyReferences(Exception):
    """A table has too many extents to map, or references the same bytes too often."""


class Layout:
    """The layout of an IPC file that references the files of the inputs: its extents, and its
    messages with the new offsets of their buffers."""

    def __init__(self, sink):
        self._sink = sink
        referred, gap = sorted(set(sink.referred.values())), GAP_BYTES_MAX
        self._regions = self._merge(referred, gap)
        while len(self._regions) > EXTENTS_MAX and gap < 1 << 40:
            gap *= 4
            self._regions = self._merge(referred, gap)
        # The server rejects a table that references the same bytes too often.
        named = sum(length for _, _, _, length in sink.referred.values())
        there = sum(end - start for _, _, start, end in self._regions)
        if len(self._regions) > EXTENTS_MAX or named > REFERRED_TIMES_MAX * there:
            raise TooManyReferences
        self._keys = [(extent, start) for extent, _, start, _ in self._regions]
        self.patches = []
        self._place()

    @staticmethod
    def _merge(referred, gap):
        regions = []
        for extent, file, start, length in referred:
            end = start + length
            start -= start % PAGE
            last = regions[-1] if regions else None
            if last and last[0] == extent and start <= last[3] + gap:
                last[3] = max(last[3], end)
            else:
                regions.append([extent, file, start, end])
        return regions

    def _place(self):
        """Assigns offsets: first the written bytes, then the referenced regions, then the
        footer."""
        at = up(self._sink.own_bytes, PAGE)
        self._starts, self.extents = [], [(0, self._sink.own_bytes, OWN, 0)]
        for _, file, start, end in self._regions:
            at = up(at, HUGE_PAGE) + start % HUGE_PAGE
            self._starts.append(at)
            self.extents.append((at, end - start, file, start))
            at = up(at + end - start, PAGE)
        self._end = at

    def _find(self, extent, start):
        index = bisect.bisect_right(self._keys, (extent, start)) - 1
        return self._starts[index] + start - self._regions[index][2]

    def _kept(self, at, length):
        """Returns written bytes, from the copies that were kept in memory."""
        found = b""
        while len(found) < length:
            found += self._sink.small[at + len(found)]
        return found[:length]

    def finish(self):
        """Updates the offsets in the messages and the footer. Returns the size of the table in
        bytes."""
        sink = self._sink
        tail = self._tail()
        size = struct.unpack("<i", tail[-10:-6])[0]
        footer = FlatBuffer(tail[-10 - size : -10])
        root = footer.follow(0)
        for index in (2, 3):
            start, count = footer.vector(root, index)
            for block in range(start, start + 24 * count, 24):
                position, metadata = footer.number("q", block), footer.number("i", block + 8)
                at = sink.own(position)
                body = self._message(at, position, metadata)
                footer.put(block, at)
                footer.put(block + 16, body)
        end = self._end
        tail = bytes(footer.data) + tail[-10:]
        own_at = up(sink.own_bytes, PAGE)
        self.patches.append((own_at, tail))
        self.extents.append((end, len(tail), OWN, own_at))
        return end + len(tail)

    def _tail(self):
        found, at = b"", sorted(self._sink.small)
        while at:
            found = self._sink.small[at.pop()] + found
            if len(found) >= 10 and len(found) >= 10 + struct.unpack("<i", found[-10:-6])[0]:
                return found
        return found

    def _message(self, at, position, metadata):
        """Updates the buffer offsets of a message. Returns the length of its body."""
        data = self._kept(at, metadata)
        prefix = 8 if data[:4] == b"\xff\xff\xff\xff" else 4
        message = FlatBuffer(data[prefix:])
        root = message.follow(0)
        header = message.follow(message.field(root, 2))
        if message.number("B", message.field(root, 1)) == 2:  # A dictionary contains a batch.
            header = message.follow(message.field(header, 1))
        start, count = message.vector(header, 2)
        body = at + metadata
        for buffer in range(start, start + 16 * count, 16):
            was, length = message.number("q", buffer), message.number("q", buffer + 8)
            was += position + metadata
            referred = self._sink.referred.get(was)
            if length == 0:
                now = body
            elif referred is not None:
                now = self._find(referred[0], referred[2])
            else:
                now = self._sink.own(was)
            message.put(buffer, now - body)
        length = message.field(root, 3)
        if length is None:
            return 0
        whole = self._end - body
        message.put(length, whole)
        self.patches.append((at + prefix, bytes(message.data)))
        return whole


def plain(schema):
    """Returns the schema without dictionary types."""
    import pyarrow

    fields = [
        field.with_type(field.type.value_type) if pyarrow.types.is_dictionary(field.type) else field
        for field in schema
    ]
    return pyarrow.schema(fields)


def in_schema(batches, schema):
    """Yields the batches of a table, cast to a schema."""
    import pyarrow

    for batch in batches:
        if batch.schema.equals(schema):
            yield batch
        else:
            yield from pyarrow.Table.from_batches([batch]).cast(schema).to_batches()


def threads_for(size):
    """Returns the number of writer threads for a size."""
    count = min(THREADS_MAX, len(os.sched_getaffinity(0)))
    return count if count > 1 and size >= 4 * BLOCK_BYTES else 0


def size_of(table):
    """Estimates the size of a table in bytes."""
    try:
        return table.nbytes
    except Exception:
        return 1 << 40  # Older versions of pyarrow do not support every type.


def write_ipc(table, rows_max, sink):
    """Writes an in-memory table to a file object, as an Arrow IPC file."""
    import pyarrow

    # All batches of a file must share one dictionary per column.
    options = pyarrow.ipc.IpcWriteOptions(unify_dictionaries=True)
    with pyarrow.ipc.new_file(sink, table.schema, options=options) as ipc:
        ipc.write_table(table, max_chunksize=rows_max)


def to_ipc(table, rows_max):
    """Returns an in-memory table as the bytes of an Arrow IPC file."""
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    write_ipc(table, rows_max, sink)
    return sink.getvalue()


def write_whole(table, rows_max, descriptor, inputs):
    """Writes an in-memory table to a file. Returns the table's size in bytes, and its extents."""
    writer = Writer(descriptor, threads_for(size_of(table)))
    try:
        sink = Sink(writer, inputs)
        write_ipc(table, rows_max, sink)
    finally:
        writer.finish()
    if not sink.referred:
        return sink.own_bytes, [(0, sink.own_bytes, OWN, 0)]
    try:
        layout = Layout(sink)
    except TooManyReferences:
        os.ftruncate(descriptor, 0)
        return write_whole(table, rows_max, descriptor, Inputs([], []))
    size = layout.finish()
    for at, data in layout.patches:
        os.pwrite(descriptor, data, at)
    return size, layout.extents
