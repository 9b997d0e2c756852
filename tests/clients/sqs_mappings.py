"""Tests of boto3 with event source mappings, which call a function with the messages of a queue.

    sqs_mappings.py URL TOKEN

TOKEN is the owner's token for the HTTP API at URL. The test creates users and access keys.

Needs: boto3.
"""

import json
import sys

import boto3
from lambda_client import URL, api, archive, client, create, fails, until

ARN = "arn:aws:sqs:us-east-1:000000000000:"

# The function appends the bodies of processed messages to a table. The body of a message determines
# its outcome.
CODE = """
from headwater import lake


def handler(event, context):
    rows, failed = [], []
    for record in event["Records"]:
        body = record["body"]
        if body == "crash":
            raise ValueError("a crash")
        if body.startswith("poison"):
            failed.append({"itemIdentifier": record["messageId"]})
            continue
        attributes = record["messageAttributes"]
        rows.append({
            "body": body,
            "batch": len(event["Records"]),
            "received": int(record["attributes"]["ApproximateReceiveCount"]),
            "kind": attributes["kind"]["stringValue"] if attributes else "",
            "source": record["eventSourceARN"],
        })
    if rows:
        lake.append("processed", rows)
    return {"batchItemFailures": failed}
"""


def queue(sqs, name, **attributes):
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url


def rows(where="true"):
    sql = f"SELECT body, batch, received, kind, source FROM processed WHERE {where} ORDER BY body"
    try:
        return api("POST", "/v1/query", {"sql": sql})
    except OSError:
        # The table may not exist yet, because the first call of the function creates it.
        return []


def counts(sqs, url):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return [int(got[name]) for name in names]


def operations(aws, sqs):
    queue(sqs, "orders")
    made = aws.create_event_source_mapping(
        EventSourceArn=ARN + "orders",
        FunctionName="store",
        BatchSize=5,
        Enabled=False,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        FilterCriteria={"Filters": [{"Pattern": '{"body": ["a"]}'}]},
        ScalingConfig={"MaximumConcurrency": 2},
    )
    assert (made["State"], made["BatchSize"]) == ("Disabled", 5), made
    assert made["FunctionArn"].endswith(":function:store"), made
    got = aws.get_event_source_mapping(UUID=made["UUID"])
    assert got["FilterCriteria"] == {"Filters": [{"Pattern": '{"body": ["a"]}'}]}, got
    assert got["FunctionResponseTypes"] == ["ReportBatchItemFailures"], got
    assert got["ScalingConfig"] == {"MaximumConcurrency": 2}, got
    updated = aws.update_event_source_mapping(UUID=made["UUID"], BatchSize=7)
    assert (updated["BatchSize"], updated["State"]) == (7, "Disabled"), updated
    assert updated["FilterCriteria"] == got["FilterCriteria"], updated
    listed = aws.list_event_source_mappings(EventSourceArn=ARN + "orders", FunctionName="store")
    assert [one["UUID"] for one in listed["EventSourceMappings"]] == [made["UUID"]], listed
    assert aws.list_event_source_mappings(FunctionName="other")["EventSourceMappings"] == []

    code = "InvalidParameterValueException"
    same = {"EventSourceArn": ARN + "orders", "FunctionName": "store"}
    fails("ResourceConflictException", aws.create_event_source_mapping, **same)
    missing = {**same, "EventSourceArn": ARN + "missing"}
    fails(code, aws.create_event_source_mapping, **missing)
    fails(code, aws.create_event_source_mapping, **{**same, "EventSourceArn": "arn:aws:kinesis:a"})
    other = {**same, "FunctionName": "other"}
    fails("ResourceNotFoundException", aws.create_event_source_mapping, **other)
    change = aws.update_event_source_mapping
    for wrong in [
        {"BatchSize": 0},
        {"BatchSize": 11},
        {"MaximumBatchingWindowInSeconds": 301},
        {"FilterCriteria": {"Filters": [{"Pattern": "{"}]}},
        {"FunctionResponseTypes": ["Other"]},
        {"MaximumRetryAttempts": 3},
    ]:
        fails(code, change, UUID=made["UUID"], **wrong)
    deleted = aws.delete_event_source_mapping(UUID=made["UUID"])
    assert deleted["State"] == "Deleting", deleted
    fails("ResourceNotFoundException", aws.get_event_source_mapping, UUID=made["UUID"])


def messages(aws, sqs):
    dead = queue(sqs, "events-dead")
    redrive = json.dumps({"deadLetterTargetArn": ARN + "events-dead", "maxReceiveCount": 2})
    url = queue(sqs, "events", VisibilityTimeout="1", RedrivePolicy=redrive)
    mapping = aws.create_event_source_mapping(
        EventSourceArn=ARN + "events",
        FunctionName="store",
        FunctionResponseTypes=["ReportBatchItemFailures"],
        FilterCriteria={"Filters": [
            {"Pattern": '{"body": [{"prefix": "e"}]}'},
            {"Pattern": '{"body": [{"prefix": "poison"}]}'},
            {"Pattern": '{"messageAttributes": {"kind": {"stringValue": ["new"]}}}'},
        ]},
    )
    entries = [{"Id": str(n), "MessageBody": f"e{n}"} for n in range(8)]
    entries.append({"Id": "poison", "MessageBody": "poison"})
    kind = {"kind": {"DataType": "String", "StringValue": "new"}}
    entries.append({"Id": "typed", "MessageBody": "typed", "MessageAttributes": kind})
    assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 10
    sqs.send_message(QueueUrl=url, MessageBody="filtered out")
    got = until(lambda: len(rows()) == 9 and rows())
    assert [one["body"] for one in got] == [f"e{n}" for n in range(8)] + ["typed"], got
    assert {one["received"] for one in got} == {1} and got[8]["kind"] == "new", got
    assert {one["source"] for one in got} == {ARN + "events"}, got
    # The failed message moves to the dead-letter queue. The other messages are not received again.
    poisoned = until(lambda: sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=5).get("Messages"))
    assert [one["Body"] for one in poisoned] == ["poison"], poisoned
    assert until(lambda: counts(sqs, url) == [0, 0])
    assert len(rows()) == 9, rows()
    result = aws.get_event_source_mapping(UUID=mapping["UUID"])["LastProcessingResult"]
    assert result == "OK", result

    # All messages of a call that fails are received again.
    aws.update_event_source_mapping(UUID=mapping["UUID"], FilterCriteria={"Filters": []})
    sqs.send_message(QueueUrl=url, MessageBody="crash")
    crashed = until(lambda: sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=5).get("Messages"))
    assert "crash" in [one["Body"] for one in crashed], crashed
    result = aws.get_event_source_mapping(UUID=mapping["UUID"])["LastProcessingResult"]
    assert result.startswith("PROBLEM: "), result

    # A disabled mapping receives no messages. With a batching window, one call gets several
    # messages.
    aws.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    for number in range(12):
        sqs.send_message(QueueUrl=url, MessageBody=f"window{number}")
    assert counts(sqs, url) == [12, 0]
    options = {"BatchSize": 12, "MaximumBatchingWindowInSeconds": 30, "Enabled": True}
    aws.update_event_source_mapping(UUID=mapping["UUID"], **options)
    got = until(lambda: rows("body LIKE 'window%'"))
    assert len(got) == 12 and {one["batch"] for one in got} == {12}, got


def bisected(aws, sqs):
    redrive = json.dumps({"deadLetterTargetArn": ARN + "halves-dead", "maxReceiveCount": 1})
    dead = queue(sqs, "halves-dead")
    url = queue(sqs, "halves", VisibilityTimeout="1", RedrivePolicy=redrive)
    entries = [{"Id": str(n), "MessageBody": "crash" if n == 5 else f"half{n}"} for n in range(9)]
    sqs.send_message_batch(QueueUrl=url, Entries=entries)
    made = aws.create_event_source_mapping(
        EventSourceArn=ARN + "halves", FunctionName="store", BisectBatchOnFunctionError=True
    )
    assert made["BisectBatchOnFunctionError"] is True, made
    got = until(lambda: len(rows("body LIKE 'half%'")) == 8 and rows("body LIKE 'half%'"))
    assert {one["received"] for one in got} == {1}, got
    failed = until(lambda: sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=5).get("Messages"))
    assert [one["Body"] for one in failed] == ["crash"], failed
    assert until(lambda: counts(sqs, url) == [0, 0])


def throttled(aws, sqs):
    redrive = json.dumps({"deadLetterTargetArn": ARN + "events-dead", "maxReceiveCount": 1})
    url = queue(sqs, "slow", RedrivePolicy=redrive)
    aws.put_function_concurrency(FunctionName="store", ReservedConcurrentExecutions=0)
    sqs.send_message(QueueUrl=url, MessageBody="throttled")
    arguments = {"EventSourceArn": ARN + "slow", "FunctionName": "store"}
    mapping = aws.create_event_source_mapping(**arguments)["UUID"]
    get = aws.get_event_source_mapping
    until(lambda: get(UUID=mapping)["LastProcessingResult"].startswith("PROBLEM"))
    aws.delete_function_concurrency(FunctionName="store")
    got = until(lambda: rows("body = 'throttled'"))
    assert got[0]["received"] == 1, got


def fifo(aws, sqs):
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = queue(sqs, "steps.fifo", VisibilityTimeout="1", **attributes)
    sent = ["f1", "poison-f2", "f3"]
    for body in sent:
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="a")
    sqs.send_message(QueueUrl=url, MessageBody="g1", MessageGroupId="b")
    mapping = aws.create_event_source_mapping(
        EventSourceArn=ARN + "steps.fifo",
        FunctionName="store",
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    window = {"UUID": mapping["UUID"], "MaximumBatchingWindowInSeconds": 1}
    fails("InvalidParameterValueException", aws.update_event_source_mapping, **window)
    until(lambda: len(rows("body IN ('f1', 'g1')")) == 2)
    # The messages after the failed message stay in the queue, to keep the order of the group.
    assert sum(counts(sqs, url)) == 2


def rights(aws, sqs):
    api("POST", "/v1/users", {"name": "eva", "kind": "service"})
    eva = client(api("POST", "/v1/access-keys", {"user": "eva"}))
    grants = [{"actions": ["invoke", "deploy"], "object": "function:store"}]
    for grant in grants:
        api("POST", "/v1/grants", {"grantee": "eva", **grant})
    queue(sqs, "private")
    arguments = {"EventSourceArn": ARN + "private", "FunctionName": "store"}
    fails("AccessDeniedException", eva.create_event_source_mapping, **arguments)
    api("POST", "/v1/grants", {"grantee": "eva", "actions": ["read"], "object": "queue:private"})
    made = eva.create_event_source_mapping(**arguments)
    # A user must not be able to take over a mapping of a queue that it may not read.
    others = [
        one["UUID"] for one in eva.list_event_source_mappings()["EventSourceMappings"]
        if one["EventSourceArn"].endswith(":events")
    ]
    update = {"UUID": others[0], "BatchSize": 3}
    fails("AccessDeniedException", eva.update_event_source_mapping, **update)
    eva.delete_event_source_mapping(UUID=made["UUID"])


def main():
    key = api("POST", "/v1/access-keys", {})
    aws = client(key)
    sqs = boto3.client(
        "sqs",
        endpoint_url=URL,
        region_name="us-east-1",
        aws_access_key_id=key["key"]["id"],
        aws_secret_access_key=key["secret"],
    )
    create(aws, "store", Code={"ZipFile": archive(CODE)})
    operations(aws, sqs)
    messages(aws, sqs)
    bisected(aws, sqs)
    throttled(aws, sqs)
    fifo(aws, sqs)
    rights(aws, sqs)
    sys.stdout.write("ok\n")


main()
