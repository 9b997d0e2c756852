"""Sends requests that botocore signs, and prints the answers.

    signed_requests.py URL < REQUESTS

The standard input is a list of requests as JSON, each with `service`, `scope` (the service that
the signature names), `key` (an id and a secret, or null for a request without a signature),
`method`, `path`, `headers` and `body`. The output is a list of answers, each with `status`, `kind`
(the type of an error) and `body`.

Needs: boto3.
"""

import base64
import hashlib
import http.client
import json
import sys
import urllib.parse

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

REGION = "us-east-1"


def send(connection, url, one):
    body = one["body"].encode()
    request = AWSRequest(one["method"], url + one["path"], data=body, headers=one["headers"])
    if one["service"] == "s3" and body:
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        request.headers["content-md5"] = digest
    if one["key"]:
        signer = S3SigV4Auth if one["service"] == "s3" else SigV4Auth
        signer(Credentials(*one["key"]), one["scope"], REGION).add_auth(request)
    prepared = request.prepare()
    parts = urllib.parse.urlsplit(prepared.url)
    target = parts.path + ("?" + parts.query if parts.query else "")
    headers = {name: str(value) for name, value in prepared.headers.items()}
    connection.request(one["method"], target, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    kind = answer.getheader("x-amzn-errortype") or ""
    if one["service"] == "sqs" and answer.status >= 400:
        # Errors of the JSON protocol are in the body.
        kind = json.loads(text)["__type"].split("#")[-1]
    return {"status": answer.status, "kind": kind, "body": text}


def main():
    url = sys.argv[1]
    answers = []
    for one in json.load(sys.stdin):
        # An answer to a request whose body was not read closes the connection.
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=60)
        answers.append(send(connection, url, one))
        connection.close()
    json.dump(answers, sys.stdout)


main()
