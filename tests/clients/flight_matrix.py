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
from flight_wire import Client, descriptor, message, rows, status

SELECT = "SELECT id FROM shop.items"
INSERT = "INSERT INTO shop.scratch (id) VALUES (1)"


class MatrixClient(Client):
    """A client that remembers the statements and transactions that it created."""

    def __init__(self, address, token):
        super().__init__(address, token)
        self.query = b"none"
        self.update = b"none"
        self.transaction = b"none"
        self.savepoint = b"{}"

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
    "do_action_create_prepared_statement": MatrixClient.prepare,
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
    "do_action_begin_transaction": MatrixClient.begin,
    "do_action_begin_savepoint": MatrixClient.add_savepoint,
    "do_action_end_savepoint": lambda it: it.act(
        "EndSavepoint", "ActionEndSavepointRequest", {1: it.savepoint, 2: 1}
    ),
    "do_action_end_transaction": lambda it: it.act(
        "EndTransaction", "ActionEndTransactionRequest", {1: it.transaction, 2: 2}
    ),
    "do_action_cancel_query": lambda it: it.act("CancelQuery", "ActionCancelQueryRequest", {1: b""}),
    "do_action_fallback": lambda it: it.send("DoAction", message({1: "CancelFlightInfo", 2: b""})),
    "other::close_session": lambda it: it.send("DoAction", message({1: "CloseSession", 2: b""})),
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


def foreign(address, token, other):
    """Returns the status of requests with the statement and transaction of another client."""
    client = MatrixClient(address, token)
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
        client = MatrixClient(address, token)
        answers[name] = {method: status(client, of) for method, of in REQUESTS.items()}
    full = MatrixClient(address, clients["full"])
    full.prepare()
    full.begin()
    answers["foreign"] = foreign(address, clients["reader"], full)
    json.dump(answers, sys.stdout)


main()
