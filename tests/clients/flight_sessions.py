"""Sessions of Arrow Flight SQL: they end with the password, the token and the user, and on request.

    flight_sessions.py ADDRESS OWNER_TOKEN

Needs: grpcio, pyarrow.
"""

import base64
import json
import sys
import urllib.request

import grpc
from flight_wire import SERVICE, Client, fields_of, message, status

SELECT = "SELECT id FROM shop.items"
PASSWORD = "correct horse battery"
ADDRESS, OWNER = sys.argv[1:]
CLOSED, NOT_CLOSABLE = 1, 3


def api(method, path, body=None):
    """Sends a request to the HTTP API as the owner."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {OWNER}", "content-type": "application/json"}
    request = urllib.request.Request(f"http://{ADDRESS}{path}", data, headers, method=method)
    with urllib.request.urlopen(request) as response:
        text = response.read()
    return json.loads(text) if text else None


def create_user(name):
    api("POST", "/v1/users", {"name": name, "password": PASSWORD})
    for actions, pattern in [(["select"], "table:shop.items"), (["read"], "branch:main")]:
        grant = {"grantee": name, "actions": actions, "object": pattern}
        api("POST", "/v1/grants", grant)


def log_in(user, password):
    """Returns a client with the token of a new session."""
    channel = grpc.insecure_channel(ADDRESS)
    credential = base64.b64encode(f"{user}:{password}".encode()).decode()
    call = channel.stream_stream(SERVICE + "Handshake")
    answers = call(iter([b""]), metadata=[("authorization", f"Basic {credential}")], timeout=60)
    list(answers)
    metadata = dict(answers.initial_metadata())
    return Client(ADDRESS, metadata["authorization"].removeprefix("Bearer "))


def select(client):
    ticket = {"id": "0", "sql": SELECT, "ref": "main", "namespace": None, "transaction": None}
    return client.read("TicketStatementQuery", {1: json.dumps(ticket)})


def catalogs(client):
    return client.read("CommandGetCatalogs")


def close(client):
    """Closes a session. Returns the status of the result."""
    (result,) = client.send("DoAction", message({1: "CloseSession", 2: b""}))
    body = fields_of(result).get(1, b"")
    assert body[:1] == b"\x08", body
    return body[1]


def begin(client):
    return client.created("BeginTransaction", "ActionBeginTransactionRequest", {})


def end(transaction):
    fields = {1: transaction, 2: 2}
    return lambda client: client.act("EndTransaction", "ActionEndTransactionRequest", fields)


def prepare(client):
    kind, name = "CreatePreparedStatement", "ActionCreatePreparedStatementRequest"
    return client.created(kind, name, {1: SELECT})


def run(handle):
    return lambda client: client.read("CommandPreparedStatementQuery", {1: handle})


def assert_open(client):
    assert status(client, select) == "OK"
    assert status(client, catalogs) == "OK"


def assert_ended(client, request=catalogs):
    """Sends only one request, because rejected requests lock out the address."""
    assert status(client, request) == "UNAUTHENTICATED"


def ends_with_the_password():
    create_user("ana")
    first, second = log_in("ana", PASSWORD), log_in("ana", PASSWORD)
    api("POST", "/v1/grants", {"grantee": "ana", "actions": ["read"], "object": "branch:dev"})
    for client in [first, second]:
        assert_open(client)
    api("PATCH", "/v1/users/ana", {"password": PASSWORD + " 2"})
    assert_ended(first, select)
    assert_ended(second, begin)
    assert_open(log_in("ana", PASSWORD + " 2"))


def ends_with_the_token():
    create_user("bob")
    tokens = [api("POST", "/v1/tokens", {"user": "bob", "label": label}) for label in "ab"]
    by_token, other = [log_in("bob", token["secret"]) for token in tokens]
    by_password = log_in("bob", PASSWORD)
    for client in [by_token, other, by_password]:
        assert_open(client)
    api("DELETE", f"/v1/tokens/{tokens[0]['token']['id']}")
    assert_ended(by_token)
    api("PATCH", "/v1/users/bob", {"password": PASSWORD + " 2"})
    assert_ended(by_password)
    assert_open(other)


def ends_with_the_user():
    create_user("eva")
    client, disabled = log_in("eva", PASSWORD), log_in("bob", PASSWORD + " 2")
    assert_open(client)
    api("DELETE", "/v1/users/eva")
    assert_ended(client)
    create_user("eva")
    assert_ended(client)
    api("PATCH", "/v1/users/bob", {"disabled": True})
    assert_ended(disabled)


def closes():
    create_user("dan")
    first, second = log_in("dan", PASSWORD), log_in("dan", PASSWORD)
    transaction, handle = begin(first), prepare(first)
    other = begin(second)
    assert close(first) == CLOSED
    assert_ended(first)
    assert_open(second)
    # Both sessions have the same credential, so the end of the first session ended these objects.
    assert status(second, end(transaction)) == "FAILED_PRECONDITION"
    assert status(second, run(handle)) == "NOT_FOUND"
    assert status(second, end(other)) == "OK"
    assert close(Client(ADDRESS, OWNER)) == NOT_CLOSABLE
    actions = [fields_of(action)[1] for action in second.send("ListActions", b"")]
    assert b"CloseSession" in actions and b"CancelFlightInfo" in actions, actions


ends_with_the_password()
ends_with_the_token()
ends_with_the_user()
closes()
