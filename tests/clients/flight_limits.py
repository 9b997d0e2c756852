"""Limits of each principal of Arrow Flight SQL, and the end of unused and cancelled requests.

    flight_limits.py limits|cancel ADDRESS OWNER_TOKEN ANA_TOKEN EVE_TOKEN

For `limits`, the server allows 2 transactions, 2 prepared statements, 1 upload and 64 KiB of rows
in memory. It ends an upload without a message for 3 seconds, and a transaction or a prepared
statement that is unused for 5 seconds. For `cancel`, it has the default limits.

Needs: grpcio, pyarrow.
"""

import json
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import grpc
import pyarrow
from flight_wire import SERVICE, Client, descriptor, message, rows, status

PART, ADDRESS, OWNER, ANA, EVE = sys.argv[1:]
APPEND = {1: message({1: 2, 2: 2}), 2: "scratch", 3: "shop"}
EXHAUSTED = "RESOURCE_EXHAUSTED"
PATIENCE = 60
IDLE = 5


def get(path):
    headers = {"authorization": f"Bearer {OWNER}"}
    request = urllib.request.Request(f"http://{ADDRESS}{path}", None, headers)
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition is still false"
        time.sleep(0.02)


def begin(client):
    return client.created("BeginTransaction", "ActionBeginTransactionRequest", {})


def end(transaction, commit=2):
    fields = {1: transaction, 2: commit}
    return lambda client: client.act("EndTransaction", "ActionEndTransactionRequest", fields)


def prepare(client, sql="SELECT id FROM shop.items"):
    kind, name = "CreatePreparedStatement", "ActionCreatePreparedStatementRequest"
    return client.created(kind, name, {1: sql})


def run(handle):
    return lambda client: client.read("CommandPreparedStatementQuery", {1: handle})


def close(client, handle):
    kind, name = "ClosePreparedStatement", "ActionClosePreparedStatementRequest"
    client.act(kind, name, {1: handle})


def error_of(client, request):
    try:
        request(client)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError("the request succeeds")


class Upload:
    """An ingestion whose rows are sent one after the other."""

    def __init__(self, client, command="CommandStatementIngest", fields=APPEND):
        self.next, self.parts, self.is_closed = threading.Event(), [], False
        self.first = {1: descriptor(command, fields)}
        call = client.channel.stream_stream(SERVICE + "DoPut")
        self.call = call(self.messages(), metadata=client.metadata, timeout=PATIENCE)

    def messages(self):
        while True:
            self.next.wait()
            self.next.clear()
            while self.parts:
                yield message(self.parts.pop(0))
            if self.is_closed:
                return

    def send(self, *parts):
        for part in parts:
            self.parts.append({**self.first, **part})
            self.first = {}
        self.next.set()

    def close(self):
        self.is_closed = True
        self.next.set()
        return list(self.call)

    def status(self):
        try:
            list(self.call)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


def many_rows(count):
    batch = pyarrow.record_batch({"id": pyarrow.array(range(count), pyarrow.int64())})
    messages = []
    for part in [batch.schema.serialize(), batch.serialize()]:
        read = pyarrow.ipc.read_message(part)
        body = read.body.to_pybytes() if read.body else b""
        messages.append({2: read.metadata.to_pybytes(), 1000: body})
    return messages


def transactions(ana, eve):
    own = [begin(ana), begin(ana)]
    other = begin(eve)
    code, text = error_of(ana, begin)
    assert code == EXHAUSTED and "user `ana` has 2 open transactions" in text, (code, text)
    assert status(eve, end(other)) == "OK"
    assert status(ana, end(own[0])) == "OK"
    own.append(begin(ana))
    for transaction in own[1:]:
        assert status(ana, end(transaction)) == "OK"


def prepared(ana, eve):
    own = [prepare(ana), prepare(ana)]
    other = prepare(eve)
    code, text = error_of(ana, prepare)
    assert code == EXHAUSTED and "user `ana` has 2 prepared statements" in text, (code, text)
    assert status(eve, run(other)) == "OK"
    assert status(ana, run(own[0])) == "OK"
    close(ana, own.pop())
    own.append(prepare(ana))
    for handle in own:
        close(ana, handle)
    close(eve, other)


def uploads(ana, eve):
    schema, batch = rows()
    waiting = Upload(ana)
    waiting.send(schema)

    def ingest(client):
        return client.put("CommandStatementIngest", APPEND, rows())

    def is_counted():
        nonlocal waiting
        if status(ana, ingest) == EXHAUSTED:
            return True
        if not waiting.call.is_active():
            # It was rejected, because it arrived during the previous ingestion.
            waiting = Upload(ana)
            waiting.send(schema)
        return False

    until(is_counted)
    code, text = error_of(ana, ingest)
    assert "user `ana` has 1 concurrent uploads" in text, text
    assert status(eve, ingest) == "OK"
    waiting.send(batch)
    waiting.close()
    assert status(ana, ingest) == "OK"


def memory(ana, eve):
    def ingest(client):
        return client.put("CommandStatementIngest", APPEND, many_rows(100_000))

    code, text = error_of(ana, ingest)
    assert code == EXHAUSTED and "of uploads in memory (limit 65536)" in text, (code, text)
    # Parameters stay in memory until their statement is closed.
    handle = prepare(ana, "SELECT id FROM shop.items WHERE id = $1")
    bind = {1: handle}
    ana.put("CommandPreparedStatementQuery", bind, many_rows(7_000))

    def small(client):
        return client.put("CommandStatementIngest", APPEND, many_rows(2_000))

    assert error_of(ana, small)[0] == EXHAUSTED
    assert status(eve, small) == "OK"
    close(ana, handle)
    assert status(ana, small) == "OK"


def expiry(ana):
    transaction, handle, waiting = begin(ana), prepare(ana), Upload(ana)
    waiting.send(rows()[0])
    assert waiting.status() == "DEADLINE_EXCEEDED"
    # A request for an object resets its idle time, so poll until a new object is allowed.
    spare = []

    def has_place(create):
        def attempt():
            made = []
            if status(ana, lambda client: made.append(create(client))) == "OK":
                spare.append(made[0])
            return len(spare) == 2

        return attempt

    until(has_place(begin))
    assert status(ana, end(transaction)) == "FAILED_PRECONDITION"
    spare.clear()
    until(has_place(prepare))
    assert status(ana, run(handle)) == "NOT_FOUND"


def busy(ana):
    """A transaction whose statement runs longer than the idle time does not expire."""
    transaction = begin(ana)
    upload = Upload(ana, fields={**APPEND, 6: transaction})
    schema, batch = rows()
    started = time.monotonic()
    upload.send(schema)
    while time.monotonic() < started + 2 * IDLE:
        upload.send(batch)
        time.sleep(IDLE / 20)
    upload.close()
    assert status(ana, end(transaction, 1)) == "OK"


def cancelled(ana):
    """The branch of a cancelled ingestion is deleted at once."""
    for number in range(20):
        cancelled_once(ana, is_waiting=number % 2 == 1)


def cancelled_once(ana, is_waiting):
    """Cancels an ingestion while it inserts rows, or while the server waits for more rows."""
    before = {job["id"] for job in get("/v1/jobs?limit=1000")}
    upload = Upload(ana)
    upload.send(*many_rows(7_000))

    def branches():
        jobs = [job for job in get("/v1/jobs?limit=1000") if job["id"] not in before]
        if is_waiting:
            jobs = [job for job in jobs if job["status"] == "succeeded"]
        found = {str(job.get("reference")) for job in jobs}
        return [name for name in found if name.startswith("_transaction")]

    until(branches)
    (branch,) = branches()
    path = "/v1/branches/" + urllib.parse.quote(branch, safe="")
    upload.call.cancel()

    def is_deleted():
        try:
            get(path)
        except urllib.error.HTTPError as error:
            return error.code == 404
        return False

    # Without the cancel request, it would be deleted after half an hour.
    until(is_deleted)


def main():
    ana, eve = Client(ADDRESS, ANA), Client(ADDRESS, EVE)
    if PART == "cancel":
        return cancelled(ana)
    transactions(ana, eve)
    prepared(ana, eve)
    uploads(ana, eve)
    memory(ana, eve)
    busy(ana)
    expiry(ana)


main()
