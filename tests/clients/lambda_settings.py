"""Tests of URLs, asynchronous calls, policies and layers; a part of lambda_boto3.py.

Needs: boto3.
"""

import base64
import json
import urllib.error
from concurrent.futures import ThreadPoolExecutor

from lambda_client import api, archive, client, create, fails, fetch, invoke, last_call, until

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


def versioned(aws):
    create(aws, "numbered", Code={"ZipFile": archive(VERSIONED)}, Publish=True)
    assert invoke(aws, "numbered", 1)[1] == ["$LATEST", "$LATEST"]
    response, payload = invoke(aws, "numbered:1", 1, LogType="Tail")
    assert payload == ["1", "1"], payload
    report = base64.b64decode(response["LogResult"]).decode().splitlines()[-1]
    duration = float(report.split("Duration: ")[1].split(" ms")[0])
    billed = int(report.split("Billed Duration: ")[1].split(" ms")[0])
    assert 0 < duration <= billed <= duration + 1, report
    aws.delete_function(FunctionName="numbered")


def changed_at_once(aws):
    """Requests that change different settings at the same time keep each other's settings."""
    create(aws, "shared", Code={"ZipFile": archive(VERSIONED)})
    for number in range(5):
        changes = [
            {"Description": f"number {number}"},
            {"Timeout": 20 + number},
            {"MemorySize": 256 + number},
            {"Environment": {"Variables": {"NUMBER": str(number)}}},
        ]
        with ThreadPoolExecutor(len(changes)) as threads:
            updates = [
                threads.submit(aws.update_function_configuration, FunctionName="shared", **change)
                for change in changes
            ]
        for update in updates:
            update.result()
        found = aws.get_function_configuration(FunctionName="shared")
        for change in changes:
            for name, value in change.items():
                assert found[name] == value, (name, found)
    aws.delete_function(FunctionName="shared")


def urls(aws, key):
    create(aws, "web", Code={"ZipFile": archive(WEB)}, Publish=True)
    aws.create_alias(FunctionName="web", Name="live", FunctionVersion="1")
    fails("ResourceNotFoundException", aws.get_function_url_config, FunctionName="web")
    fails("ResourceNotFoundException", aws.delete_function_url_config, FunctionName="web")
    for wrong in [
        {"AuthType": "OTHER"},
        {"AuthType": "NONE", "InvokeMode": "OTHER"},
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
    author, log = last_call()
    assert author == "anonymous", author
    assert any("the header `a b` has an invalid name or value" in line for line in log), log
    status, _, _ = fetch(url, data=b"x" * (65 << 20))
    assert status == 413, status
    status, headers, _ = fetch(url, Origin="https://a.example")
    assert (status, headers["access-control-allow-origin"]) == (201, "https://a.example"), status
    asks = {"Origin": "https://a.example", "access-control-request-method": "GET"}
    status, headers, _ = fetch(url, method="OPTIONS", **asks)
    assert (status, headers["access-control-allow-methods"]) == (200, "GET"), headers
    assert fetch(url, Origin="https://b.example")[0] == 403
    for other in ["none/", "web:live/", "a%2F..%2Fb/", "%ff/", ""]:
        status, _, body = fetch(url.removesuffix("web/") + other)
        assert status in (403, 404, 401), (other, status, body)

    aws.update_function_url_config(FunctionName="web", AuthType="AWS_IAM")
    assert fetch(url)[0] == 403
    assert fetch(url + "plain", key)[0] == 200
    assert last_call()[0] == "owner"
    assert api("GET", "/v1/functions/web/versions")[0]["author"] == "owner"
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


def queue_and_table(aws, key):
    """Sends the record of a successful call to a queue, and that of a failed call to a table."""
    sqs = client(key, "sqs")
    url = sqs.create_queue(QueueName="results")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    arn = arn["Attributes"]["QueueArn"]
    set_to = {
        "OnSuccess": {"Destination": arn},
        "OnFailure": {"Destination": "table://failures.calls"},
    }
    made = aws.put_function_event_invoke_config(
        FunctionName="price", MaximumRetryAttempts=0, DestinationConfig=set_to
    )
    assert made["DestinationConfig"] == set_to, made
    api("POST", "/v1/query", {"sql": "CREATE SCHEMA failures"})
    for event in ["fine", "fail"]:
        aws.invoke(
            FunctionName="price", InvocationType="Event", Payload=json.dumps(event).encode()
        )
    received = until(lambda: sqs.receive_message(QueueUrl=url).get("Messages"))
    record = json.loads(received[0]["Body"])
    assert record["requestContext"]["condition"] == "Success", record
    assert (record["requestPayload"], record["responsePayload"]["event"]) == ("fine", "fine")

    def rows():
        sql = "SELECT function, status, request, response, error FROM failures.calls"
        try:
            return api("POST", "/v1/query", {"sql": sql})
        except urllib.error.HTTPError:
            return None  # The table does not exist yet.

    (row,) = until(rows)
    assert row["status"] == "RetriesExhausted" and row["request"] == '"fail"', row
    assert row["function"] == "price" and row["response"] is None, row
    assert "not today" in row["error"], row


def destinations(aws, key):
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
        {"DestinationConfig": {"OnFailure": {"Destination": "ftp://example.com"}}},
        {"DestinationConfig": {"OnFailure": {"Destination": "https://a:b@example.com"}}},
        {"DestinationConfig": {"OnFailure": {"Destination": "https://example.com#secret=NONE"}}},
        {"DestinationConfig": {"OnFailure": {"Destination": "table://a*"}}},
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
    queue_and_table(aws, key)
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
    tools = archive("tool 1", "share/tool.txt")
    tools = aws.publish_layer_version(LayerName="tools", Content={"ZipFile": tools})
    reading = archive("def handler(e, c):\n    return open('/opt/share/tool.txt').read()\n")
    create(aws, "reading", Code={"ZipFile": reading}, Layers=[tools["LayerVersionArn"]])
    assert invoke(aws, "reading", 1)[1] == "tool 1"
    aws.delete_function(FunctionName="reading")
    aws.delete_layer_version(LayerName="tools", VersionNumber=1)

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
