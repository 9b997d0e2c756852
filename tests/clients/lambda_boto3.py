"""Tests of boto3 with Lambda's API: every supported operation, errors, rights.

    lambda_boto3.py URL TOKEN S3

TOKEN is the owner's token for the HTTP API at URL. S3 is the URL of the S3 endpoint. The test
creates users and access keys.

Needs: boto3.
"""

import base64
import hashlib
import io
import json
import os
import sys
import urllib.error
import urllib.request
import zipfile

from lambda_client import (
    CODE,
    ROLE,
    SEEN,
    URL,
    api,
    archive,
    client,
    create,
    fails,
    fetch,
    invoke,
    until,
)
from lambda_settings import changed_at_once, destinations, layers, permissions, urls, versioned
from lambda_streams import node_streams, streams


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
    assert "REPORT RequestId: " in log and "\tMemory Size: " in log, log
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
    large = b'"' + b"x" * (65 << 20) + b'"'
    for kind in ["RequestResponse", "Event"]:
        message = fails(
            "RequestTooLargeException",
            aws.invoke,
            FunctionName="price",
            InvocationType=kind,
            Payload=large,
        )
        assert "must be smaller than" in message and "bucket" in message, message
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
    provisioned(aws)


def provisioned(aws):
    # Provisioned instances may use half of the memory of functions, which is little in this test.
    aws.update_function_configuration(FunctionName="price", MemorySize=128)
    version = aws.publish_version(FunctionName="price")["Version"]
    of_version = {"FunctionName": "price", "Qualifier": version}
    fails(
        "ProvisionedConcurrencyConfigNotFoundException",
        aws.get_provisioned_concurrency_config,
        **of_version,
    )
    put = aws.put_provisioned_concurrency_config(**of_version, ProvisionedConcurrentExecutions=1)
    assert put["RequestedProvisionedConcurrentExecutions"] == 1, put
    get = aws.get_provisioned_concurrency_config
    until(lambda: get(**of_version)["Status"] == "READY")
    assert get(**of_version)["AllocatedProvisionedConcurrentExecutions"] == 1
    listed = aws.list_provisioned_concurrency_configs(FunctionName="price")
    arns = [one["FunctionArn"] for one in listed["ProvisionedConcurrencyConfigs"]]
    assert len(arns) == 1 and arns[0].endswith(f":price:{version}"), arns
    aws.put_provisioned_concurrency_config(**of_version, ProvisionedConcurrentExecutions=2)
    fails(
        "InvalidParameterValueException",
        aws.put_function_concurrency,
        FunctionName="price",
        ReservedConcurrentExecutions=1,
    )
    aws.delete_provisioned_concurrency_config(**of_version)
    fails("ProvisionedConcurrencyConfigNotFoundException", get, **of_version)
    fails(
        "InvalidParameterValueException",
        aws.put_provisioned_concurrency_config,
        FunctionName="price",
        Qualifier="$LATEST",
        ProvisionedConcurrentExecutions=1,
    )


def buckets(aws, key):
    """Code and layers from archives in a bucket."""
    s3 = client(key, "s3", sys.argv[3])
    s3.create_bucket(Bucket="code")
    first = archive()
    second = archive(CODE.replace('{"event": event,', '{"event": [event],'))
    s3.put_object(Bucket="code", Key="first.zip", Body=first)
    s3.put_object(Bucket="code", Key="second.zip", Body=second)
    stored = {"S3Bucket": "code", "S3Key": "first.zip"}
    made = create(aws, "stored", Code=stored)
    assert made["CodeSize"] == len(first), made
    assert invoke(aws, "stored", 1)[1]["event"] == 1
    updated = aws.update_function_code(FunctionName="stored", S3Bucket="code", S3Key="second.zip")
    assert updated["CodeSize"] == len(second), updated
    # The function does not need the object after the request.
    s3.delete_object(Bucket="code", Key="second.zip")
    assert invoke(aws, "stored", 1)[1]["event"] == [1]
    # The files of a large archive are never in the server's memory.
    large = io.BytesIO()
    with zipfile.ZipFile(large, "w") as file:
        file.writestr("app.py", CODE)
        file.writestr("weights.bin", os.urandom(40 << 20))
    s3.put_object(Bucket="code", Key="large.zip", Body=large.getvalue())
    updated = aws.update_function_code(FunctionName="stored", S3Bucket="code", S3Key="large.zip")
    digest = base64.b64encode(hashlib.sha256(large.getvalue()).digest()).decode()
    assert (updated["CodeSha256"], updated["CodeSize"]) == (digest, len(large.getvalue())), updated
    s3.delete_object(Bucket="code", Key="large.zip")
    assert invoke(aws, "stored", 1)[1]["event"] == 1
    layer = aws.publish_layer_version(LayerName="stored", Content=stored)
    assert layer["Content"]["CodeSize"] == len(first), layer
    aws.delete_layer_version(LayerName="stored", VersionNumber=1)
    for wrong in [
        {"S3Bucket": "code", "S3Key": "second.zip"},
        {"S3Bucket": "none", "S3Key": "first.zip"},
        {"S3Bucket": "code"},
        {**stored, "ZipFile": first},
        {**stored, "S3ObjectVersion": "1"},
    ]:
        fails("InvalidParameterValueException", create, aws=aws, name="other", Code=wrong)

    api("POST", "/v1/users", {"name": "ben", "kind": "service"})
    ben = client(api("POST", "/v1/access-keys", {"user": "ben"}))
    deploy = {"grantee": "ben", "actions": ["deploy"], "object": "function:ben-*"}
    api("POST", "/v1/grants", deploy)
    message = fails("AccessDeniedException", create, aws=ben, name="ben-one", Code=stored)
    assert "read on bucket:code" in message, message
    api("POST", "/v1/grants", {"grantee": "ben", "actions": ["read"], "object": "bucket:code"})
    create(ben, "ben-one", Code=stored)
    ben.delete_function(FunctionName="ben-one")
    # The right to deploy is checked before the archive is read: this archive does not exist.
    missing = {"S3Bucket": "code", "S3Key": "none.zip"}
    message = fails("AccessDeniedException", create, aws=ben, name="other", Code=missing)
    assert "deploy on function:other" in message, message
    message = fails(
        "AccessDeniedException",
        ben.publish_layer_version,
        LayerName="other",
        Content=missing,
    )
    assert "deploy on function:layer/other" in message, message
    fails("AccessDeniedException", ben.update_function_code, FunctionName="stored", **missing)
    aws.delete_function(FunctionName="stored")


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
    # A user owns the functions that it creates, so it may call them without a grant.
    assert invoke(eve, "eve-one", 1)[1]["event"] == 1
    eve.delete_function(FunctionName="eve-one")
    create(owner, "eve-one", Publish=True)
    fails("AccessDeniedException", eve.invoke, FunctionName="eve-one")
    owner.delete_function(FunctionName="eve-one")

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
changed_at_once(aws)
urls(aws, own_key)
destinations(aws, own_key)
permissions(aws)
layers(aws)
buckets(aws, own_key)
streams(aws, own_key)
node_streams(aws)
rights(aws)
print(f"{len(SEEN)} operations: {sorted(SEEN)}", file=sys.stderr)
assert len(SEEN) >= 45, sorted(SEEN)
print("ok")
