"""Messages of Arrow Flight SQL, encoded without its libraries, for requests that no driver sends.

Needs: grpcio, pyarrow.
"""

import grpc
import pyarrow

SERVICE = "/arrow.flight.protocol.FlightService/"
TYPES = "type.googleapis.com/arrow.flight.protocol.sql."
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
    """A client with a token."""

    def __init__(self, address, token):
        self.channel = grpc.insecure_channel(address)
        self.metadata = [("authorization", f"Bearer {token}")] if token is not None else []

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


def status(client, request):
    """Sends a request. Returns the name of its status."""
    try:
        request(client)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"
