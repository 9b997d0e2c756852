"""boto3 on Lambda's API: every supported operation, errors, rights.

    lambda_boto3.py URL TOKEN

The owner of the lake has TOKEN for the HTTP API at URL, and creates users and access keys.

Needs: boto3.
"""

import base64
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

VERSIONED = """
import os


def handler(event, context):
    return [os.environ["AWS_LAMBDA_FUNCTION_VERSION"], context.function_version]
"""

WEB = """
import base64
import json


def handler(event, context):
    path = event.get("rawPath")
    if path == "/fail":
        raise ValueError("secret detail")
    if path == "/wrong":
        return {"statusCode": 200, "headers": {"a b": "c"}}
    if path == "/plain":
        return {"echo": event}
    body = base64.b64encode(b"<p>hi</p>").decode()
    headers = {"content-type": "text/html", "x-made": "yes"}
    return {"statusCode": 201, "headers": headers, "cookies": ["a=1"], "body": body,
            "isBase64Encoded": True}
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


def client(key):
    """Returns a client with an access key."""
    made = boto3.client(
        "lambda",
        endpoint_url=URL,
        aws_access_key_id=key["key"]["id"],
        aws_secret_access_key=key["secret"],
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, parameter_validation=False, read_timeout=120),
    )
    made.meta.events.register("after-call.lambda.*", count)
    return made


def count(http_response, model, **_):
    """Counts an operation that succeeded."""
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


def until(condition):
    """Waits until a condition holds, and returns its value."""
    deadline = time.monotonic() + 120
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "no result in time"
        time.sleep(0.05)


def versioned(aws):
    create(aws, "numbered", Code={"ZipFile": archive(VERSIONED)}, Publish=True)
    assert invoke(aws, "numbered", 1)[1] == ["$LATEST", "$LATEST"]
    response, payload = invoke(aws, "numbered:1", 1, LogType="Tail")
    assert payload == ["1", "1"], payload
    report = base64.b64decode(response["LogResult"]).decode().splitlines()[-1]
    duration = float(report.split("Duration: ")[1].split(" ms")[0])
    billed = int(report.split("Billed Duration: ")[1].split(" ms")[0])
    assert 0 < billed <= duration + 1, report
    assert duration != int(duration), report
    aws.delete_function(FunctionName="numbered")


def fetch(url, key=None, data=None, method=None, **headers):
    """Sends a request, signed with a key if there is one; returns status, headers and body."""
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


def urls(aws, key):
    create(aws, "web", Code={"ZipFile": archive(WEB)}, Publish=True)
    aws.create_alias(FunctionName="web", Name="live", FunctionVersion="1")
    fails("ResourceNotFoundException", aws.get_function_url_config, FunctionName="web")
    fails("ResourceNotFoundException", aws.delete_function_url_config, FunctionName="web")
    for wrong in [
        {"AuthType": "OTHER"},
        {"AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"},
        {"AuthType": "NONE", "Qualifier": "1"},
        {"AuthType": "NONE", "Cors": {"AllowOrigins": ["a\r\nb: c"]}},
        {"AuthType": "NONE", "Cors": {"MaxAge": 86_401}},
    ]:
        call = aws.create_function_url_config
        fails("InvalidParameterValueException", call, FunctionName="web", **wrong)
    cors = {"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "MaxAge": 5}
    made = aws.create_function_url_config(FunctionName="web", AuthType="NONE", Cors=cors)
    url = made["FunctionUrl"]
    assert (made["AuthType"], made["Cors"]) == ("NONE", cors), made
    fails(
        "ResourceConflictException",
        aws.create_function_url_config,
        FunctionName="web",
        AuthType="NONE",
    )
    assert aws.get_function_url_config(FunctionName="web")["FunctionUrl"] == url

    status, headers, body = fetch(url + "any?x=1")
    assert (status, body) == (201, b"<p>hi</p>"), (status, body)
    assert headers["content-type"] == "text/html" and headers["x-made"] == "yes", headers
    assert headers["set-cookie"] == "a=1" and headers["x-amzn-requestid"], headers
    assert "sandbox" in headers["content-security-policy"], headers
    status, headers, body = fetch(
        url + "plain?x=1&x=2", data=b'{"n": 1}', content_type="application/json", cookie="c=1"
    )
    event = json.loads(body)["echo"]
    assert (status, event["rawPath"], event["body"]) == (200, "/plain", '{"n": 1}'), event
    assert event["queryStringParameters"] == {"x": "1,2"}, event
    assert event["requestContext"]["http"]["method"] == "POST", event
    assert event["cookies"] == ["c=1"] and not event["isBase64Encoded"], event
    for path in ["fail", "wrong"]:
        status, _, body = fetch(url + path)
        assert status == 502 and b"secret" not in body, (status, body)
    status, _, _ = fetch(url, data=b"x" * (7 << 20))
    assert status == 413, status
    # Pages of other origins need `--allow-origin` of the server, too.
    assert fetch(url, Origin="https://a.example")[0] == 403
    for other in ["none/", "web:live/", "a%2F..%2Fb/", "%ff/", ""]:
        status, _, body = fetch(url.removesuffix("web/") + other)
        assert status in (403, 404, 401), (other, status, body)

    aws.update_function_url_config(FunctionName="web", AuthType="AWS_IAM")
    assert fetch(url)[0] == 403
    assert fetch(url + "plain", key)[0] == 200
    status, _, body = fetch(url + "plain", key)
    event = json.loads(body)["echo"]
    assert "authorization" not in event["headers"], event
    assert event["requestContext"]["authorizer"]["iam"]["accessKey"] == key["key"]["id"], event
    assert fetch(url, {"key": key["key"], "secret": "hws_" + "0" * 56})[0] == 403

    aws.create_function_url_config(FunctionName="web", AuthType="NONE", Qualifier="live")
    listed = aws.list_function_url_configs(FunctionName="web")["FunctionUrlConfigs"]
    assert len(listed) == 2, listed
    live = aws.get_function_url_config(FunctionName="web", Qualifier="live")["FunctionUrl"]
    assert fetch(live)[0] == 201
    aws.put_function_concurrency(FunctionName="web", ReservedConcurrentExecutions=0)
    assert fetch(live)[0] == 429
    aws.delete_function_concurrency(FunctionName="web")
    aws.delete_alias(FunctionName="web", Name="live")
    assert fetch(live)[0] == 403
    aws.delete_function_url_config(FunctionName="web")
    assert fetch(url, key)[0] == 403


def destinations(aws):
    fails(
        "ResourceNotFoundException",
        aws.get_function_event_invoke_config,
        FunctionName="price",
    )
    put = aws.put_function_event_invoke_config
    for wrong in [
        {"MaximumRetryAttempts": 101},
        {"MaximumRetryAttempts": 2**40},
        {"MaximumEventAgeInSeconds": 59},
        {"DestinationConfig": {"OnSuccess": {"Destination": "arn:aws:sqs:us-east-1:0:queue"}}},
        {"DestinationConfig": {"OnSuccess": {"Destination": "nothing"}}},
        {"DestinationConfig": {"OnFailure": {"Destination": "price:1"}}},
    ]:
        fails("InvalidParameterValueException", put, FunctionName="price", **wrong)
    fails(
        "ResourceNotFoundException",
        aws.update_function_event_invoke_config,
        FunctionName="price",
        MaximumRetryAttempts=1,
    )
    web = aws.get_function_configuration(FunctionName="web")["FunctionArn"]
    set_to = {"OnSuccess": {"Destination": web}, "OnFailure": {"Destination": web}}
    made = put(FunctionName="price", MaximumRetryAttempts=0, DestinationConfig=set_to)
    assert made["DestinationConfig"] == set_to and made["MaximumRetryAttempts"] == 0, made
    assert made["FunctionArn"].endswith(":price:$LATEST"), made
    changed = aws.update_function_event_invoke_config(
        FunctionName="price", MaximumEventAgeInSeconds=600
    )
    assert (changed["MaximumRetryAttempts"], changed["MaximumEventAgeInSeconds"]) == (0, 600)
    assert aws.get_function_event_invoke_config(FunctionName="price")["LastModified"]
    put(FunctionName="price", Qualifier="1", MaximumRetryAttempts=2)
    listed = aws.list_function_event_invoke_configs(FunctionName="price")
    assert len(listed["FunctionEventInvokeConfigs"]) == 2, listed

    expected = {"Success": "fine", "RetriesExhausted": "fail"}
    for event in expected.values():
        aws.invoke(
            FunctionName="price", InvocationType="Event", Payload=json.dumps(event).encode()
        )

    def records():
        events = api("GET", "/v1/trigger-events?limit=1000")
        done = [one for one in events if one["trigger"] == "/functions/web"]
        done = [one for one in done if one["status"] == "done"]
        return len(done) == 2 and [one["data"]["arguments"]["event"] for one in done]

    found = {one["requestContext"]["condition"]: one for one in until(records)}
    for condition, payload in expected.items():
        assert found[condition]["requestPayload"] == payload, found
        assert found[condition]["requestContext"]["approximateInvokeCount"] == 1, found
    assert found["Success"]["responsePayload"]["event"] == "fine", found
    assert "not today" in found["RetriesExhausted"]["responsePayload"]["errorMessage"], found
    aws.delete_function_event_invoke_config(FunctionName="price", Qualifier="1")
    aws.delete_function_event_invoke_config(FunctionName="price")
    fails(
        "ResourceNotFoundException",
        aws.delete_function_event_invoke_config,
        FunctionName="price",
    )
    aws.delete_function(FunctionName="web")


def permissions(aws):
    fails("ResourceNotFoundException", aws.get_policy, FunctionName="price")
    allowed = dict(
        FunctionName="price",
        StatementId="s3",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
        SourceArn="arn:aws:s3:::landing",
    )
    added = json.loads(aws.add_permission(**allowed)["Statement"])
    assert added["Principal"] == {"Service": "s3.amazonaws.com"}, added
    assert added["Condition"] == {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::landing"}}, added
    fails("ResourceConflictException", aws.add_permission, **allowed)
    for wrong in [{"StatementId": "a b"}, {"Action": "s3:Get"}, {"Principal": "a\nb"}]:
        fails("InvalidParameterValueException", aws.add_permission, **{**allowed, **wrong})
    stale = {**allowed, "StatementId": "other", "RevisionId": "none"}
    fails("PreconditionFailedException", aws.add_permission, **stale)
    got = aws.get_policy(FunctionName="price")
    assert json.loads(got["Policy"])["Statement"] == [added], got
    aws.add_permission(**{**allowed, "StatementId": "other", "RevisionId": got["RevisionId"]})
    for statement in ["s3", "other"]:
        aws.remove_permission(FunctionName="price", StatementId=statement)
    fails("ResourceNotFoundException", aws.get_policy, FunctionName="price")
    fails(
        "ResourceNotFoundException",
        aws.remove_permission,
        FunctionName="price",
        StatementId="s3",
    )


def layers(aws):
    shared = archive("def price():\n    return 'layered'\n", "python/shared_price.py")
    made = aws.publish_layer_version(
        LayerName="deps",
        Description="shared",
        Content={"ZipFile": shared},
        CompatibleRuntimes=["python3.11"],
    )
    arn = made["LayerVersionArn"]
    assert (made["Version"], made["Content"]["CodeSize"]) == (1, len(shared)), made
    for wrong in [{"ZipFile": b"no archive"}, {"S3Bucket": "b", "S3Key": "k"}]:
        fails(
            "InvalidParameterValueException",
            aws.publish_layer_version,
            LayerName="deps",
            Content=wrong,
        )
    assert aws.get_layer_version(LayerName="deps", VersionNumber=1)["Description"] == "shared"
    assert aws.get_layer_version_by_arn(Arn=arn)["Version"] == 1
    fails(
        "ResourceNotFoundException", aws.get_layer_version, LayerName="deps", VersionNumber=2
    )
    fails("InvalidParameterValueException", aws.get_layer_version_by_arn, Arn="arn:x")
    two = aws.publish_layer_version(LayerName=made["LayerArn"], Content={"ZipFile": archive()})
    assert two["Version"] == 2, two
    listed = aws.list_layer_versions(LayerName="deps")["LayerVersions"]
    assert [one["Version"] for one in listed] == [2, 1], listed
    latest = aws.list_layers()["Layers"][0]
    assert latest["LatestMatchingVersion"]["Version"] == 2, latest

    allowed = dict(LayerName="deps", VersionNumber=1, StatementId="all")
    aws.add_layer_version_permission(**allowed, Action="lambda:GetLayerVersion", Principal="*")
    got = aws.get_layer_version_policy(LayerName="deps", VersionNumber=1)
    assert json.loads(got["Policy"])["Statement"][0]["Sid"] == "all", got
    aws.remove_layer_version_permission(**allowed)
    fails("ResourceNotFoundException", aws.remove_layer_version_permission, **allowed)

    code = archive("import shared_price\n\ndef handler(e, c):\n    return shared_price.price()\n")
    for wrong in [["arn:x"], [arn.replace("deps", "none")], [arn[:-1] + "9"], [arn] * 6]:
        fails(
            "InvalidParameterValueException", create, aws=aws, name="layered", Layers=wrong
        )
    made = create(aws, "layered", Code={"ZipFile": code}, Layers=[arn], Publish=True)
    assert made["Layers"] == [{"Arn": arn, "CodeSize": len(shared)}], made
    assert invoke(aws, "layered", 1)[1] == "layered"
    # A function keeps the files of its layers.
    for number in [1, 2]:
        aws.delete_layer_version(LayerName="deps", VersionNumber=number)
    assert aws.list_layers()["Layers"] == []
    assert invoke(aws, "layered:1", 1)[1] == "layered"
    aws.update_function_configuration(FunctionName="layered", Layers=[])
    assert "Layers" not in aws.get_function_configuration(FunctionName="layered")
    assert invoke(aws, "layered", 1)[0]["FunctionError"] == "Unhandled"
    assert invoke(aws, "layered:1", 1)[1] == "layered"
    aws.delete_function(FunctionName="layered")


def rights(owner):
    api("POST", "/v1/users", {"name": "eve", "kind": "service"})
    key = api("POST", "/v1/access-keys", {"user": "eve"})
    eve = client(key)
    for call in [
        eve.get_function,
        eve.delete_function,
        eve.invoke,
        eve.publish_version,
        eve.get_function_url_config,
        eve.delete_function_url_config,
        eve.list_function_event_invoke_configs,
        eve.get_policy,
    ]:
        fails("AccessDeniedException", call, FunctionName="price")
    fails("AccessDeniedException", create, aws=eve, name="new")
    fails(
        "AccessDeniedException",
        eve.create_function_url_config,
        FunctionName="price",
        AuthType="NONE",
    )
    assert eve.list_functions()["Functions"] == []
    url = owner.create_function_url_config(FunctionName="price", AuthType="AWS_IAM")["FunctionUrl"]
    assert fetch(url, key)[0] == 403

    grant = {"grantee": "eve", "actions": ["invoke"], "object": "function:price"}
    api("POST", "/v1/grants", grant)
    assert invoke(eve, "price", 1)[1]["event"] == 1
    assert fetch(url, key)[0] == 200
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


own_key = api("POST", "/v1/access-keys", {})
aws = client(own_key)
functions(aws)
changes(aws)
versions(aws)
aliases(aws)
calls(aws)
settings(aws)
versioned(aws)
urls(aws, own_key)
destinations(aws)
permissions(aws)
layers(aws)
rights(aws)
print(f"{len(SEEN)} operations: {sorted(SEEN)}", file=sys.stderr)
assert len(SEEN) >= 45, sorted(SEEN)
print("ok")
