"""Helpers of the tests of Lambda's API and of its queues: clients, archives, requests.

Needs: boto3.
"""

import io
import json
import sys
import time
import urllib.error
import urllib.request
import zipfile

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

URL, TOKEN = sys.argv[1:3]
ROLE = "arn:aws:iam::000000000000:role/any"

# The prefix of the ARNs of queues.
QUEUES = "arn:aws:sqs:us-east-1:000000000000:"

CODE = """
import json
import os
import time


def handler(event, context):
    print("handling", json.dumps(event))
    if event == "fail":
        raise ValueError("not today")
    if event == "slow":
        time.sleep(60)
    return {"event": event, "name": context.function_name, "stage": os.environ.get("STAGE")}
"""

#: Names of the operations that succeeded.
SEEN = set()


def api(method, path, body=None):
    """Sends a request to the HTTP API as the owner."""
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read() or "null")


def last_call():
    """Returns the author of the last call of a function, and the lines of its log."""
    job = api("GET", "/v1/jobs?kind=function&limit=1")[0]
    headers = {"authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"{URL}/v1/jobs/{job['id']}/events", headers=headers)
    with urllib.request.urlopen(request) as response:
        events = [json.loads(line) for line in response.read().splitlines()]
    return job["author"], [event["text"] for event in events if event.get("text")]


def client(key, service="lambda", url=URL):
    """Returns a client of a service with an access key."""
    made = boto3.client(
        service,
        endpoint_url=url,
        aws_access_key_id=key["key"]["id"],
        aws_secret_access_key=key["secret"],
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, parameter_validation=False, read_timeout=120),
    )
    made.meta.events.register("after-call.lambda.*", count)
    return made


def sqs_client(key, **more):
    """Returns a client of SQS with an access key."""
    return boto3.client(
        "sqs",
        endpoint_url=URL,
        region_name="us-east-1",
        aws_access_key_id=key["key"]["id"],
        aws_secret_access_key=key["secret"],
        **more,
    )


def counts(sqs, url):
    """Returns the numbers of visible and of invisible messages of a queue."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return [int(got[name]) for name in names]


def processed(condition="true"):
    """Returns the rows that a function added to the table `processed`, ordered by `body`."""
    sql = f"SELECT * FROM processed WHERE {condition} ORDER BY body"
    try:
        return api("POST", "/v1/query", {"sql": sql})
    except OSError:
        # The table may not exist yet, because the first call of the function creates it.
        return []


def count(http_response, model, **_):
    """Records the name of an operation that succeeded."""
    if http_response.status_code < 300:
        SEEN.add(model.name)


def archive(code=CODE, name="app.py"):
    """Returns a ZIP archive with one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, code)
    return buffer.getvalue()


def fails(code, call, **arguments):
    """Checks that a call fails with a code of Lambda, and returns the message."""
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == code, f"{found} instead of {code}: {error}"
        assert error.response["Error"]["Message"], error
        return error.response["Error"]["Message"]
    raise AssertionError(f"no error instead of {code}")


def create(aws, name, **more):
    """Creates a function."""
    arguments = dict(
        FunctionName=name,
        Runtime="python3.11",
        Role=ROLE,
        Handler="app.handler",
        Timeout=120,
        MemorySize=512,
        Code={"ZipFile": archive()},
    )
    return aws.create_function(**{**arguments, **more})


def invoke(aws, name, event, **more):
    """Calls a function and returns the response with its parsed payload."""
    response = aws.invoke(FunctionName=name, Payload=json.dumps(event).encode(), **more)
    text = response["Payload"].read()
    return response, json.loads(text) if text else None


def until(condition):
    """Waits until a condition holds, and returns its value."""
    deadline = time.monotonic() + 120
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "no result in time"
        time.sleep(0.05)


def fetch(url, key=None, data=None, method=None, **headers):
    """Sends a request, which is signed if `key` is given. Returns status, headers and body."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        credentials = Credentials(key["key"]["id"], key["secret"])
        signed = AWSRequest(method or "GET", url, data=data, headers=headers)
        SigV4Auth(credentials, "lambda", "us-east-1").add_auth(signed)
        headers = dict(signed.headers)
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
