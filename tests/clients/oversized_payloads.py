"""Sends a payload of 1 GiB to each interface that accepts events and calls.

    oversized_payloads.py URL SOCKET

The server has the function `echo`. Each payload is sent twice: with its length in the header, and
in chunks without a length. Prints the name of each interface that accepts a payload, or that
answers without a clear error. Prints nothing if all are rejected. Needs: boto3, and an access key
in the environment.
"""

import datetime
import os
import select
import socket
import sys
from urllib.parse import urlsplit

import boto3

URL, SOCKET = sys.argv[1:]
BYTES = 1 << 30
PART = b" " * (1 << 20)
LAMBDA = "/2015-03-31/functions/echo/invocations"


def signature(service):
    """Returns headers with an invalid signature, which the server verifies after the body."""
    now = datetime.datetime.now(datetime.timezone.utc)
    scope = f"{os.environ['AWS_ACCESS_KEY_ID']}/{now:%Y%m%d}/us-east-1/{service}/aws4_request"
    return {
        "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}",
        "authorization": f"AWS4-HMAC-SHA256 Credential={scope}, "
        f"SignedHeaders=host;x-amz-date, Signature={'00' * 32}",
    }


def send(path, headers, is_chunked):
    """Sends the payload until the server responds. Returns the response."""
    length = {"transfer-encoding": "chunked"} if is_chunked else {"content-length": str(BYTES)}
    lines = [f"{name}: {value}" for name, value in {**headers, **length}.items()]
    head = "\r\n".join([f"POST {path} HTTP/1.1", "host: localhost", "connection: close", *lines])
    part = b"%x\r\n%s\r\n" % (len(PART), PART) if is_chunked else PART
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(SOCKET)
    connection.sendall(f"{head}\r\n\r\n".encode())
    try:
        for _ in range(BYTES // len(PART)):
            if select.select([connection], [], [], 0)[0]:
                break
            connection.sendall(part)
    except (BrokenPipeError, ConnectionResetError):
        pass
    response = b""
    try:
        while received := connection.recv(65536):
            response += received
    except ConnectionResetError:
        pass
    connection.close()
    return response.decode()


def main():
    aws = boto3.client("lambda", endpoint_url=URL)
    url = aws.create_function_url_config(FunctionName="echo", AuthType="NONE")["FunctionUrl"]
    sqs = {"x-amz-target": "AmazonSQS.SendMessage", "content-type": "application/x-amz-json-1.0"}
    json = {"content-type": "application/json"}
    interfaces = {
        "invoke": ("/v1/functions/echo/invoke", json, 400),
        "invoke-async": ("/v1/functions/echo/invoke-async", json, 400),
        "events": (
            "/v1/functions/echo/events",
            {"content-type": "application/cloudevents+json"},
            400,
        ),
        "Lambda": (LAMBDA, signature("lambda"), 413),
        "Lambda, asynchronous": (
            LAMBDA,
            {**signature("lambda"), "x-amz-invocation-type": "Event"},
            413,
        ),
        "function URL": (urlsplit(url).path, {"content-type": "text/plain"}, 413),
        "SQS": ("/", {**signature("sqs"), **sqs}, 400),
    }
    for name, (path, headers, status) in interfaces.items():
        for is_chunked in (False, True):
            response = send(path, headers, is_chunked)
            is_clear = "is too long" in response or "must be smaller" in response
            if not (response.startswith(f"HTTP/1.1 {status} ") and is_clear):
                print(f"{name}, chunked: {is_chunked}: {response[:500]!r}")


main()
