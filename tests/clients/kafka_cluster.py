"""A Kafka cluster for tests: the mock cluster of librdkafka, with an optional proxy.

The argument is a JSON object: `brokers` is the number of servers, and `proxy` starts a proxy in
front of a single server. The proxy can stop and start again at the same address, hide
partitions, and require TLS (`tls`: files of the certificate and its key) and a login (`users`:
passwords by name). It also finds offsets by time, which the mock cluster does not support.

The first line of the output is a JSON object with `servers`. Each line of the input is then a
command, which is answered by one line.
"""

import base64
import hashlib
import hmac
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time

from confluent_kafka import Producer

PRODUCE, OFFSETS, METADATA, HANDSHAKE, AUTHENTICATE = 0, 2, 3, 17, 36
HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
WRONG_LOGIN, UNKNOWN_MECHANISM = 58, 33


def text(value):
    """Encodes a text of the protocol."""
    return struct.pack(">h", len(value)) + value.encode()


def receive(stream):
    """Receives a message; `None` at the end of the connection."""
    length = stream.read(4)
    if not length or len(length) < 4:
        return None
    message = stream.read(struct.unpack(">i", length)[0])
    return message


def framed(message):
    return struct.pack(">i", len(message)) + message


class Login:
    """The login of one connection."""

    def __init__(self, users):
        self.users = users
        self.mechanism = None
        self.step = 0
        self.done = not users

    def handshake(self, body):
        length = struct.unpack_from(">h", body)[0]
        self.mechanism = body[2 : 2 + length].decode()
        names = ["PLAIN", *HASHES]
        error = 0 if self.mechanism in names else UNKNOWN_MECHANISM
        return struct.pack(">hi", error, len(names)) + b"".join(map(text, names))

    def authenticate(self, body):
        data = body[4 : 4 + struct.unpack_from(">i", body)[0]]
        answer = self.plain(data) if self.mechanism == "PLAIN" else self.scram(data)
        if answer is None:
            failed = struct.pack(">h", WRONG_LOGIN) + text("Authentication failed")
            return failed + struct.pack(">i", 0)
        return struct.pack(">hhi", 0, -1, len(answer)) + answer

    def plain(self, data):
        _, user, password = data.decode().split("\0")
        self.done = self.users.get(user) == password
        return b"" if self.done else None

    def scram(self, data):
        name = HASHES[self.mechanism]
        if self.step == 0:
            self.step, self.first = 1, data.decode().split(",", 2)[2]
            fields = dict(part.split("=", 1) for part in self.first.split(","))
            password = self.users.get(fields["n"], os.urandom(8).hex()).encode()
            salt, count = os.urandom(16), 4096
            self.salted = hashlib.pbkdf2_hmac(name, password, salt, count)
            nonce = fields["r"] + os.urandom(12).hex()
            salt = base64.b64encode(salt).decode()
            self.reply = f"r={nonce},s={salt},i={count}"
            return self.reply.encode()
        final = data.decode()
        without_proof, proof = final.rsplit(",p=", 1)
        signed = ",".join([self.first, self.reply, without_proof]).encode()
        digest = lambda key, value: hmac.new(key, value, name).digest()
        client_key = digest(self.salted, b"Client Key")
        signature = digest(hashlib.new(name, client_key).digest(), signed)
        expected = bytes(a ^ b for a, b in zip(client_key, signature))
        if base64.b64decode(proof) != expected:
            return None
        self.done = True
        verifier = digest(digest(self.salted, b"Server Key"), signed)
        return b"v=" + base64.b64encode(verifier)


class Proxy:
    """Forwards connections to one server."""

    def __init__(self, target, options):
        self.target = target
        self.users = options.get("users") or {}
        self.partitions = None
        # Timestamps and offsets of the records of each topic and partition.
        self.times = {}
        self.port = 0
        self.open_sockets = []
        self.context = None
        if options.get("tls"):
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*options["tls"])
        self.up()

    def up(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def down(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for one in self.open_sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open_sockets = []

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            self.open_sockets.append(client)
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
            server = socket.create_connection(self.target)
            self.open_sockets.append(server)
            self.exchange(client, client.makefile("rb"), server, server.makefile("rb"))
        except (OSError, ssl.SSLError):
            pass
        finally:
            client.close()

    def exchange(self, client, requests, server, responses):
        login = Login(self.users)
        while (request := receive(requests)) is not None:
            key, version, number = struct.unpack_from(">hhi", request)
            body = request[10 + max(struct.unpack_from(">h", request, 8)[0], 0) :]
            if key == HANDSHAKE:
                answer = request[4:8] + login.handshake(body)
            elif key == AUTHENTICATE:
                answer = request[4:8] + login.authenticate(body)
            elif not login.done:
                return
            elif key == OFFSETS and (found := self.offsets(body)) is not None:
                answer = request[4:8] + found
            else:
                server.sendall(framed(request))
                if (answer := receive(responses)) is None:
                    return
                if key == METADATA and version == 4:
                    answer = self.rewritten(answer)
            client.sendall(framed(answer))

    def offsets(self, body):
        """Answers a request for offsets at a time; `None` for the first or the last offset."""
        length = struct.unpack_from(">h", body, 9)[0]
        topic, at = body[11 : 11 + length].decode(), 11 + length
        count = struct.unpack_from(">i", body, at)[0]
        wanted = [struct.unpack_from(">iq", body, at + 4 + 12 * one) for one in range(count)]
        if any(moment < 0 for _, moment in wanted):
            return None
        answer = struct.pack(">ii", 0, 1) + text(topic) + struct.pack(">i", count)
        for partition, moment in wanted:
            known = self.times.get((topic, partition), [])
            found = min((one for one in known if one[0] >= moment), default=(-1, -1))
            answer += struct.pack(">ihqq", partition, 0, *found)
        return answer

    def rewritten(self, message):
        """Replaces the port of the only server, and hides partitions."""
        at = 12 + 4
        at += 2 + struct.unpack_from(">h", message, at)[0]
        message = bytearray(message)
        struct.pack_into(">i", message, at, self.port)
        if self.partitions is None:
            return bytes(message)
        at += 4 + 2
        at += 2 + struct.unpack_from(">h", message, at)[0] + 4 + 4 + 2
        at += 2 + struct.unpack_from(">h", message, at)[0] + 1
        count = struct.unpack_from(">i", message, at)[0]
        first = at + 4
        size = (len(message) - first) // max(count, 1)
        entries = [bytes(message[first + size * i : first + size * (i + 1)]) for i in range(count)]
        kept = [one for one in entries if struct.unpack_from(">i", one, 2)[0] < self.partitions]
        return bytes(message[:at]) + struct.pack(">i", len(kept)) + b"".join(kept)


class Cluster:
    def __init__(self, options):
        config = {"test.mock.num.brokers": options.get("brokers", 1), "bootstrap.servers": "mock"}
        self.producer = Producer({**config, "log_level": 0})
        self.brokers = self.producer.list_topics(timeout=30).brokers
        self.servers = [f"{one.host}:{one.port}" for one in self.brokers.values()]
        self.producers = {}
        self.proxy = None
        if options.get("proxy"):
            broker = next(iter(self.brokers.values()))
            self.proxy = Proxy((broker.host, broker.port), options)
            self.public = f"127.0.0.1:{self.proxy.port}"
        else:
            self.public = ",".join(self.servers)

    def topic(self, topic):
        """Creates a topic. Returns the number of its partitions."""
        return len(self.producer.list_topics(topic, timeout=30).topics[topic].partitions)

    def produce(self, topic, partition, records, codec="none"):
        """Sends records, in one batch if possible. Returns their offsets."""
        if codec not in self.producers:
            self.producers[codec] = Producer({
                "bootstrap.servers": ",".join(self.servers),
                "compression.type": codec,
                "linger.ms": 20,
                "message.max.bytes": 100_000_000,
            })
        producer, offsets = self.producers[codec], []

        def delivered(error, message, sent):
            offsets.append(str(error) if error else message.offset())
            if self.proxy and not error:
                times = self.proxy.times.setdefault((topic, partition), [])
                times.append((sent, message.offset()))

        for record in records:
            record = {"key": None, "value": None, "headers": None, "repeat": 1, **record}
            value, now = record["value"], int(time.time() * 1000)
            producer.produce(
                topic,
                None if value is None else value.encode("latin-1") * record["repeat"],
                None if record["key"] is None else record["key"].encode("latin-1"),
                partition=partition,
                headers=[
                    (name, None if one is None else one.encode("latin-1"))
                    for name, one in record["headers"] or []
                ],
                timestamp=now,
                on_delivery=lambda error, message, now=now: delivered(error, message, now),
            )
            producer.poll(0)
        producer.flush(60)
        return offsets

    def raw(self, topic, partition, batch):
        """Sends the bytes of a batch."""
        metadata = self.producer.list_topics(topic, timeout=30)
        leader = self.brokers[metadata.topics[topic].partitions[partition].leader]
        batch = base64.b64decode(batch)
        body = struct.pack(">hhii", -1, -1, 10_000, 1) + text(topic)
        body += struct.pack(">iii", 1, partition, len(batch)) + batch
        with socket.create_connection((leader.host, leader.port)) as connection:
            header = struct.pack(">hhi", PRODUCE, 7, 1) + text("test")
            connection.sendall(framed(header + body))
            answer = receive(connection.makefile("rb"))
        at = 4 + 4 + 2 + len(topic) + 4 + 4
        return struct.unpack_from(">hq", answer, at)

    def down(self):
        self.proxy.down()

    def up(self):
        self.proxy.up()

    def show(self, partitions):
        """Shows only the first partitions; `None` shows all."""
        self.proxy.partitions = partitions


def main():
    cluster = Cluster(json.loads(sys.argv[1]))
    print(json.dumps({"servers": cluster.public}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        result = getattr(cluster, command.pop("do"))(**command)
        print(json.dumps({"result": result}), flush=True)


main()
