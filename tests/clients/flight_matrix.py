"""Sends every request of Arrow Flight SQL with several credentials, and prints the status of each.

    flight_matrix.py ADDRESS < CASES

The standard input maps names to the tokens of clients; a token can be null. The output maps the
names to methods to the names of gRPC's status codes. The methods are those of the trait
`FlightSqlService` of the crate `arrow-flight`, and `other::` for requests outside of it.

Needs: grpcio, pyarrow.
"""

import json
import sys

import grpc
import pyarrow

SERVICE = "/arrow.flight.protocol.FlightService/"
TYPES = "type.googleapis.com/arrow.flight.protocol.sql."
SELECT = "SELECT id FROM shop.items"
INSERT = "INSERT INTO shop.scratch (id) VALUES (1)"
UNARY = {"GetFlightInfo", "GetSchema", "PollFlightInfo"}
STREAMING = {"Handshake", "DoPut", "DoExchange"}


def varint(number):
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def message(fields):
    """Encodes a message of Protocol Buffers from its fields by number."""
    encoded = b""
    for number, value in fields.items():
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
            continue
        value = value.encode() if isinstance(value, str) else value
        encoded += varint(number << 3 | 2) + varint(len(value)) + value
    return encoded


def fields_of(encoded):
    """Decodes the fields of a message, all of which are texts, bytes or messages."""
    fields, at = {}, 0
    while at < len(encoded):
        number, length, at = encoded[at] >> 3, 0, at + 1
        for shift in range(0, 32, 7):
            byte, at = encoded[at], at + 1
            length |= (byte & 127) << shift
            if byte < 128:
                break
        fields[number] = encoded[at : at + length]
        at += length
    return fields


def command(name, fields=None):
    return message({1: TYPES + name, 2: message(fields or {})})


def descriptor(name, fields=None):
    return message({1: 2, 2: command(name, fields)})


def rows():
    """Returns the messages of a DoPut with one row, without their descriptor."""
    batch = pyarrow.record_batch({"id": pyarrow.array([1], pyarrow.int64())})
    messages = []
    for part in [batch.schema.serialize(), batch.serialize()]:
        read = pyarrow.ipc.read_message(part)
        body = read.body.to_pybytes() if read.body else b""
        messages.append({2: read.metadata.to_pybytes(), 1000: body})
    return messages


class Client:
    """A client with a token, and the statements and transactions that it created."""

    def __init__(self, address, token):
        self.channel = grpc.insecure_channel(address)
        self.metadata = [("authorization", f"Bearer {token}")] if token is not None else []
        self.query = b"none"
        self.update = b"none"
        self.transaction = b"none"
        self.savepoint = b"{}"

    def send(self, method, *messages):
        """Sends a request. Returns the answers."""
        if method in STREAMING:
            call = self.channel.stream_stream(SERVICE + method)
            return list(call(iter(messages), metadata=self.metadata, timeout=60))
        if method in UNARY:
            call = self.channel.unary_unary(SERVICE + method)
            return [call(*messages, metadata=self.metadata, timeout=60)]
        call = self.channel.unary_stream(SERVICE + method)
        return list(call(*messages, metadata=self.metadata, timeout=60))

    def describe(self, name, fields=None):
        return self.send("GetFlightInfo", descriptor(name, fields))

    def read(self, name, fields=None):
        return self.send("DoGet", message({1: command(name, fields)}))

    def act(self, kind, name, fields=None):
        return self.send("DoAction", message({1: kind, 2: command(name, fields)}))

    def put(self, name, fields, messages=()):
        first = {1: descriptor(name, fields)}
        messages = [{**first, **messages[0]}, *messages[1:]] if messages else [first]
        return self.send("DoPut", *map(message, messages))

    def created(self, kind, name, fields):
        """Returns the id of an object that an action creates."""
        (result,) = self.act(kind, name, fields)
        answer = fields_of(fields_of(result)[1])
        return fields_of(answer[2])[1]

    def prepare(self):
        kind, name = "CreatePreparedStatement", "ActionCreatePreparedStatementRequest"
        self.query = self.created(kind, name, {1: SELECT})
        try:
            self.update = self.created(kind, name, {1: INSERT})
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error

    def begin(self):
        name = "ActionBeginTransactionRequest"
        self.transaction = self.created("BeginTransaction", name, {})

    def add_savepoint(self):
        fields = {1: self.transaction, 2: "s"}
        self.savepoint = self.created("BeginSavepoint", "ActionBeginSavepointRequest", fields)


def ticket():
    """Returns a ticket that the client wrote itself."""
    fields = {"id": "0", "sql": SELECT, "ref": "main", "namespace": None, "transaction": None}
    return {1: json.dumps(fields)}


KEYS = {3: "items"}
REFERENCES = {3: "items", 6: "items"}
APPEND = {1: message({1: 2, 2: 2}), 2: "scratch", 3: "shop"}
PLAN = {1: message({1: b"plan"})}

# The requests, in their order.
REQUESTS = {
    "do_handshake": lambda it: it.send("Handshake", b""),
    "get_flight_info_statement": lambda it: it.describe("CommandStatementQuery", {1: SELECT}),
    "do_get_statement": lambda it: it.read("TicketStatementQuery", ticket()),
    "get_flight_info_substrait_plan": lambda it: it.describe("CommandStatementSubstraitPlan", PLAN),
    "do_put_substrait_plan": lambda it: it.put("CommandStatementSubstraitPlan", PLAN),
    "do_action_create_prepared_substrait_plan": lambda it: it.act(
        "CreatePreparedSubstraitPlan", "ActionCreatePreparedSubstraitPlanRequest", PLAN
    ),
    "do_action_create_prepared_statement": Client.prepare,
    "do_put_prepared_statement_query": lambda it: it.put(
        "CommandPreparedStatementQuery", {1: it.query}
    ),
    "get_flight_info_prepared_statement": lambda it: it.describe(
        "CommandPreparedStatementQuery", {1: it.query}
    ),
    "do_get_prepared_statement": lambda it: it.read(
        "CommandPreparedStatementQuery", {1: it.query}
    ),
    "do_put_prepared_statement_update": lambda it: it.put(
        "CommandPreparedStatementUpdate", {1: it.update}
    ),
    "do_action_close_prepared_statement": lambda it: it.act(
        "ClosePreparedStatement", "ActionClosePreparedStatementRequest", {1: it.query}
    ),
    "do_put_statement_update": lambda it: it.put("CommandStatementUpdate", {1: INSERT}),
    "do_put_statement_ingest": lambda it: it.put("CommandStatementIngest", APPEND, rows()),
    "do_action_begin_transaction": Client.begin,
    "do_action_begin_savepoint": Client.add_savepoint,
    "do_action_end_savepoint": lambda it: it.act(
        "EndSavepoint", "ActionEndSavepointRequest", {1: it.savepoint, 2: 1}
    ),
    "do_action_end_transaction": lambda it: it.act(
        "EndTransaction", "ActionEndTransactionRequest", {1: it.transaction, 2: 2}
    ),
    "do_action_cancel_query": lambda it: it.act("CancelQuery", "ActionCancelQueryRequest", {1: b""}),
    "do_action_fallback": lambda it: it.send("DoAction", message({1: "CancelFlightInfo", 2: b""})),
    "get_flight_info_catalogs": lambda it: it.describe("CommandGetCatalogs"),
    "do_get_catalogs": lambda it: it.read("CommandGetCatalogs"),
    "get_flight_info_schemas": lambda it: it.describe("CommandGetDbSchemas"),
    "do_get_schemas": lambda it: it.read("CommandGetDbSchemas"),
    "get_flight_info_tables": lambda it: it.describe("CommandGetTables", {5: 1}),
    "do_get_tables": lambda it: it.read("CommandGetTables", {5: 1}),
    "get_flight_info_table_types": lambda it: it.describe("CommandGetTableTypes"),
    "do_get_table_types": lambda it: it.read("CommandGetTableTypes"),
    "get_flight_info_sql_info": lambda it: it.describe("CommandGetSqlInfo"),
    "do_get_sql_info": lambda it: it.read("CommandGetSqlInfo"),
    "get_flight_info_xdbc_type_info": lambda it: it.describe("CommandGetXdbcTypeInfo"),
    "do_get_xdbc_type_info": lambda it: it.read("CommandGetXdbcTypeInfo"),
    "get_flight_info_primary_keys": lambda it: it.describe("CommandGetPrimaryKeys", KEYS),
    "do_get_primary_keys": lambda it: it.read("CommandGetPrimaryKeys", KEYS),
    "get_flight_info_exported_keys": lambda it: it.describe("CommandGetExportedKeys", KEYS),
    "do_get_exported_keys": lambda it: it.read("CommandGetExportedKeys", KEYS),
    "get_flight_info_imported_keys": lambda it: it.describe("CommandGetImportedKeys", KEYS),
    "do_get_imported_keys": lambda it: it.read("CommandGetImportedKeys", KEYS),
    "get_flight_info_cross_reference": lambda it: it.describe(
        "CommandGetCrossReference", REFERENCES
    ),
    "do_get_cross_reference": lambda it: it.read("CommandGetCrossReference", REFERENCES),
    "other::list_actions": lambda it: it.send("ListActions", b""),
    "other::list_flights": lambda it: it.send("ListFlights", b""),
    "other::get_schema": lambda it: it.send(
        "GetSchema", descriptor("CommandStatementQuery", {1: SELECT})
    ),
    "other::poll_flight_info": lambda it: it.send(
        "PollFlightInfo", descriptor("CommandStatementQuery", {1: SELECT})
    ),
    "other::do_exchange": lambda it: it.send("DoExchange", b""),
    "other::do_action": lambda it: it.send("DoAction", message({1: "Other", 2: b""})),
}


def status(client, request):
    try:
        request(client)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def foreign(address, token, other):
    """Returns the status of requests with the statement and transaction of another client."""
    client = Client(address, token)
    client.query, client.transaction = other.query, other.transaction
    names = [
        "do_get_prepared_statement",
        "do_action_close_prepared_statement",
        "do_action_end_transaction",
    ]
    return {name: status(client, REQUESTS[name]) for name in names}


def main():
    address = sys.argv[1]
    clients = json.load(sys.stdin)
    answers = {}
    for name, token in clients.items():
        client = Client(address, token)
        answers[name] = {method: status(client, of) for method, of in REQUESTS.items()}
    full = Client(address, clients["full"])
    full.prepare()
    full.begin()
    answers["foreign"] = foreign(address, clients["reader"], full)
    json.dump(answers, sys.stdout)


main()
