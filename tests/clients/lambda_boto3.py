"""boto3 on Lambda's API: every supported operation, errors, rights.

    lambda_boto3.py URL TOKEN

The owner of the lake has TOKEN for the HTTP API at URL, and creates users and access keys.

Needs: boto3.
"""

import base64
import io
import json
import sys
import urllib.error
import urllib.request
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

URL, TOKEN = sys.argv[1:3]
ROLE = "arn:aws:iam::000000000000:role/any"

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


def api(method, path, body=None):
    """Sends a request to the HTTP API as the owner."""
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read() or "null")


def client(key):
    """Returns a client with an access key."""
    return boto3.client(
        "lambda",
        endpoint_url=URL,
        aws_access_key_id=key["key"]["id"],
        aws_secret_access_key=key["secret"],
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, parameter_validation=False, read_timeout=120),
    )


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


def functions(aws):
    made = create(aws, "price", Description="prices", Tags={"team": "shop"})
    assert made["FunctionArn"].endswith(":function:price"), made
    assert (made["Version"], made["State"], made["Role"]) == ("$LATEST", "Active", ROLE)
    assert (made["Timeout"], made["MemorySize"], made["CodeSize"]) == (120, 512, len(archive()))
    aws.get_waiter("function_active_v2").wait(FunctionName="price")
    got = aws.get_function(FunctionName=made["FunctionArn"])
    assert got["Configuration"]["CodeSha256"] == made["CodeSha256"], got
    assert got["Tags"] == {"team": "shop"}, got
    assert aws.get_function_configuration(FunctionName="price")["Description"] == "prices"
    assert [one["FunctionName"] for one in aws.list_functions()["Functions"]] == ["price"]

    fails("ResourceConflictException", create, aws=aws, name="price")
    message = fails(
        "InvalidParameterValueException", create, aws=aws, name="other", Handler="main.handler"
    )
    assert "main.py" in message and "app.py" in message, message
    for wrong in [
        {"Runtime": "java21"},
        {"MemorySize": 1},
        {"Timeout": 0},
        {"Layers": ["arn:aws:lambda:us-east-1:1:layer:x:1"]},
        {"Code": {"ZipFile": b"no archive"}},
        {"Code": {"ZipFile": archive(name="../app.py")}},
        {"Code": {"S3Bucket": "b", "S3Key": "k"}},
        {"Environment": {"Variables": {"a b": "c"}}},
        {"VpcConfig": {"SubnetIds": ["subnet-1"]}},
    ]:
        fails("InvalidParameterValueException", create, aws=aws, name="other", **wrong)
    create(aws, "empty", VpcConfig={"SubnetIds": []}, TracingConfig={"Mode": "PassThrough"})
    aws.delete_function(FunctionName="empty")
    fails("ResourceNotFoundException", aws.get_function, FunctionName="other")
    fails("ResourceNotFoundException", aws.get_function, FunctionName="price", Qualifier="9")
    fails("ResourceNotFoundException", aws.delete_function, FunctionName="other")


def changes(aws):
    before = aws.get_function_configuration(FunctionName="price")
    changed = aws.update_function_configuration(
        FunctionName="price", Environment={"Variables": {"STAGE": "test"}}, Timeout=60
    )
    assert changed["Environment"]["Variables"] == {"STAGE": "test"}, changed
    assert (changed["Timeout"], changed["MemorySize"]) == (60, 512), changed
    assert changed["RevisionId"] != before["RevisionId"]
    aws.get_waiter("function_updated_v2").wait(FunctionName="price")
    fails(
        "PreconditionFailedException",
        aws.update_function_configuration,
        FunctionName="price",
        Timeout=10,
        RevisionId=before["RevisionId"],
    )
    fails(
        "InvalidParameterValueException",
        aws.update_function_configuration,
        FunctionName="price",
        Handler="none.handler",
    )
    code = archive(CODE + "# changed\n")
    dry = aws.update_function_code(FunctionName="price", ZipFile=code, DryRun=True)
    assert dry["CodeSha256"] != changed["CodeSha256"]
    assert aws.get_function_configuration(FunctionName="price")["CodeSize"] == len(archive())
    updated = aws.update_function_code(FunctionName="price", ZipFile=code)
    assert updated["CodeSha256"] == dry["CodeSha256"]
    fails(
        "InvalidParameterValueException",
        aws.update_function_code,
        FunctionName="price",
        ZipFile=archive(name="other.py"),
    )


def versions(aws):
    one = aws.publish_version(FunctionName="price", Description="first")
    assert (one["Version"], one["Description"]) == ("1", "first"), one
    assert one["FunctionArn"].endswith(":price:1"), one
    assert aws.publish_version(FunctionName="price", Description="first")["Version"] == "1"
    aws.update_function_configuration(
        FunctionName="price", Environment={"Variables": {"STAGE": "new"}}
    )
    fails(
        "InvalidParameterValueException",
        aws.publish_version,
        FunctionName="price",
        CodeSha256="other",
    )
    assert aws.publish_version(FunctionName="price")["Version"] == "2"
    listed = aws.list_versions_by_function(FunctionName="price")["Versions"]
    assert [version["Version"] for version in listed] == ["$LATEST", "1", "2"], listed
    first = aws.list_versions_by_function(FunctionName="price", MaxItems=2)
    rest = aws.list_versions_by_function(FunctionName="price", Marker=first["NextMarker"])
    assert [version["Version"] for version in rest["Versions"]] == ["2"], rest
    everything = aws.list_functions(FunctionVersion="ALL")["Functions"]
    assert len(everything) == 3, everything


def aliases(aws):
    made = aws.create_alias(FunctionName="price", Name="live", FunctionVersion="1")
    assert made["AliasArn"].endswith(":price:live"), made
    fails(
        "ResourceConflictException",
        aws.create_alias,
        FunctionName="price",
        Name="live",
        FunctionVersion="1",
    )
    fails(
        "ResourceNotFoundException",
        aws.create_alias,
        FunctionName="price",
        Name="no",
        FunctionVersion="9",
    )
    fails("ResourceNotFoundException", aws.get_alias, FunctionName="price", Name="no")
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    changed = aws.update_alias(FunctionName="price", Name="live", RoutingConfig=weights)
    assert changed["RoutingConfig"] == weights, changed
    assert aws.get_alias(FunctionName="price", Name="live")["FunctionVersion"] == "1"
    fails(
        "PreconditionFailedException",
        aws.update_alias,
        FunctionName="price",
        Name="live",
        Description="x",
        RevisionId=made["RevisionId"],
    )
    fails(
        "InvalidParameterValueException",
        aws.update_alias,
        FunctionName="price",
        Name="live",
        RoutingConfig={"AdditionalVersionWeights": {"2": 1.5}},
    )
    used = {invoke(aws, "price", 1, Qualifier="live")[0]["ExecutedVersion"] for _ in range(40)}
    assert used == {"1", "2"}, used
    assert len(aws.list_aliases(FunctionName="price")["Aliases"]) == 1
    assert aws.list_aliases(FunctionName="price", FunctionVersion="2")["Aliases"] == []
    fails(
        "ResourceConflictException", aws.delete_function, FunctionName="price", Qualifier="2"
    )
    aws.delete_alias(FunctionName="price", Name="live")
    aws.delete_function(FunctionName="price", Qualifier="2")
    fails("ResourceNotFoundException", aws.get_function, FunctionName="price", Qualifier="2")


def calls(aws):
    response, payload = invoke(aws, "price", {"n": 1}, LogType="Tail")
    assert payload == {"event": {"n": 1}, "name": "price", "stage": "new"}, payload
    assert (response["StatusCode"], response["ExecutedVersion"]) == (200, "$LATEST"), response
    log = base64.b64decode(response["LogResult"]).decode()
    assert 'handling {"n": 1}' in log and log.startswith("START RequestId: "), log
    assert "REPORT RequestId: " in log, log
    _, payload = invoke(aws, "price:1", [])
    assert (payload["stage"], payload["event"]) == ("test", []), payload
    arn = "arn:aws:lambda:us-east-1:000000000000:function:price:1"
    assert invoke(aws, arn, 1)[0]["ExecutedVersion"] == "1"
    assert aws.invoke(FunctionName="price")["StatusCode"] == 200

    response, payload = invoke(aws, "price", "fail")
    assert (response["StatusCode"], response["FunctionError"]) == (200, "Unhandled"), response
    assert (payload["errorType"], payload["errorMessage"]) == ("ValueError", "not today"), payload
    assert "app.py" in payload["stackTrace"][0], payload
    aws.update_function_configuration(FunctionName="price", Timeout=2)
    response, payload = invoke(aws, "price", "slow")
    assert "Task timed out after 2.00 seconds" in payload["errorMessage"], payload
    aws.update_function_configuration(FunctionName="price", Timeout=60)

    assert aws.invoke(FunctionName="price", InvocationType="DryRun")["StatusCode"] == 204
    accepted = aws.invoke(FunctionName="price", InvocationType="Event", Payload=b'"later"')
    assert accepted["StatusCode"] == 202, accepted
    assert aws.invoke_async(FunctionName="price", InvokeArgs=b"{}")["Status"] == 202
    fails("InvalidRequestContentException", aws.invoke, FunctionName="price", Payload=b"{")
    fails("ResourceNotFoundException", aws.invoke, FunctionName="none")
    fails("ResourceNotFoundException", aws.invoke, FunctionName="price", Qualifier="none")
    fails(
        "InvalidParameterValueException", aws.invoke, FunctionName="price:1", Qualifier="live"
    )


def settings(aws):
    assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(FunctionName="price")
    put = aws.put_function_concurrency(FunctionName="price", ReservedConcurrentExecutions=0)
    assert put["ReservedConcurrentExecutions"] == 0
    fails("TooManyRequestsException", aws.invoke, FunctionName="price")
    got = aws.get_function(FunctionName="price")["Concurrency"]
    assert got == {"ReservedConcurrentExecutions": 0}, got
    aws.delete_function_concurrency(FunctionName="price")
    assert invoke(aws, "price", 1)[1]["event"] == 1

    arn = aws.get_function_configuration(FunctionName="price")["FunctionArn"]
    aws.tag_resource(Resource=arn, Tags={"stage": "test", "x": "y"})
    aws.untag_resource(Resource=arn, TagKeys=["x", "team"])
    assert aws.list_tags(Resource=arn)["Tags"] == {"stage": "test"}
    assert aws.get_account_settings()["AccountUsage"]["FunctionCount"] == 1
    assert aws.get_function_code_signing_config(FunctionName="price")["FunctionName"] == "price"
    fails("UnknownOperationException", aws.list_event_source_mappings)


def rights(owner):
    api("POST", "/v1/users", {"name": "eve", "kind": "service"})
    key = api("POST", "/v1/access-keys", {"user": "eve"})
    eve = client(key)
    for call in [eve.get_function, eve.delete_function, eve.invoke, eve.publish_version]:
        fails("AccessDeniedException", call, FunctionName="price")
    fails("AccessDeniedException", create, aws=eve, name="new")
    assert eve.list_functions()["Functions"] == []

    grant = {"grantee": "eve", "actions": ["invoke"], "object": "function:price"}
    api("POST", "/v1/grants", grant)
    assert invoke(eve, "price", 1)[1]["event"] == 1
    assert invoke(eve, "price:1", 1, LogType="Tail")[0]["LogResult"]
    fails("AccessDeniedException", eve.get_function, FunctionName="price")
    grant = {"grantee": "eve", "actions": ["deploy"], "object": "function:eve-*"}
    api("POST", "/v1/grants", grant)
    create(eve, "eve-one", Publish=True)
    assert [one["FunctionName"] for one in eve.list_functions()["Functions"]] == ["eve-one"]
    fails("AccessDeniedException", eve.invoke, FunctionName="eve-one")
    eve.delete_function(FunctionName="eve-one")

    wrong = {"key": key["key"], "secret": "hws_" + "0" * 56}
    fails("InvalidSignatureException", client(wrong).list_functions)
    unknown = {"key": {"id": "AKIDUNKNOWN"}, "secret": "x"}
    fails("UnrecognizedClientException", client(unknown).list_functions)
    request = urllib.request.Request(URL + "/2015-03-31/functions")
    try:
        urllib.request.urlopen(request)
        raise AssertionError("a request without a signature was answered")
    except urllib.error.HTTPError as error:
        assert error.code == 403, error.code
        assert error.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    owner.delete_function(FunctionName="price")
    assert owner.list_functions()["Functions"] == []


aws = client(api("POST", "/v1/access-keys", {}))
functions(aws)
changes(aws)
versions(aws)
aliases(aws)
calls(aws)
settings(aws)
rights(aws)
print("ok")
