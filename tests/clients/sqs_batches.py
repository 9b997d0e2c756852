"""Tests of the limits of event source mappings: the size of batches, the time that messages are
invisible while a batch is bisected, and rights that are lost.

    sqs_batches.py URL TOKEN

TOKEN is the owner's token for the HTTP API at URL. The test creates users and access keys.

Needs: boto3.
"""

import sys

import boto3
from lambda_client import URL, api, archive, client, create, until

ARN = "arn:aws:sqs:us-east-1:000000000000:"

# Longer than half of the time for which the messages of a batch are invisible at first.
CALL_SECONDS = 6

# The function appends one row per message, even if the call fails afterwards.
CODE = f"""
import time
from headwater import lake


def handler(event, context):
    bodies = [record["body"] for record in event["Records"]]
    if "slow" in bodies[0]:
        time.sleep({CALL_SECONDS})
    if "slow-crash" in bodies:
        raise ValueError("a crash")
    lake.append("processed", [{{
        "body": record["body"][:20],
        "batch": len(bodies),
        "bytes": sum(len(body) for body in bodies),
        "received": int(record["attributes"]["ApproximateReceiveCount"]),
    }} for record in event["Records"]])
"""


def rows(prefix):
    sql = f"SELECT * FROM processed WHERE body LIKE '{prefix}%' ORDER BY body"
    try:
        return api("POST", "/v1/query", {"sql": sql})
    except OSError:
        # The table may not exist yet, because the first call of the function creates it.
        return []


def sent(sqs, name, bodies, **attributes):
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=body)
    return url


def counts(sqs, url):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return [int(got[name]) for name in names]


def sizes(aws, sqs):
    """Ten messages of 1,000,000 bytes do not fit into one call of 6 MiB."""
    bodies = [f"large-{number}-".ljust(1_000_000, "x") for number in range(10)]
    url = sent(sqs, "large", bodies)
    aws.create_event_source_mapping(
        EventSourceArn=ARN + "large", FunctionName="store", BatchSize=10
    )
    got = until(lambda: len(rows("large")) == 10 and rows("large"))
    assert all(one["bytes"] <= 6 << 20 for one in got), got
    assert max(one["batch"] for one in got) == 6, got
    # A message that did not fit into a call was not received for it.
    assert {one["received"] for one in got} == {1}, got
    until(lambda: counts(sqs, url) == [0, 0])


def visibility(aws, sqs):
    """The halves of a batch stay invisible for longer than the timeout of the queue."""
    bodies = ["slow-0", "slow-1", "slow-2", "slow-crash"]
    url = sent(sqs, "halves", bodies, VisibilityTimeout="10")
    mapping = aws.create_event_source_mapping(
        EventSourceArn=ARN + "halves",
        FunctionName="store",
        BatchSize=4,
        BisectBatchOnFunctionError=True,
    )
    got = until(lambda: len(rows("slow")) == 3 and rows("slow"))
    assert [one["body"] for one in got] == bodies[:3], got
    assert {one["received"] for one in got} == {1}, got
    aws.delete_event_source_mapping(UUID=mapping["UUID"])
    assert sum(counts(sqs, url)) == 1, counts(sqs, url)


def rights(aws, sqs):
    """Messages stay in their queue while the user of the mapping may not call the function."""
    api("POST", "/v1/users", {"name": "eva", "kind": "service"})
    eva = client(api("POST", "/v1/access-keys", {"user": "eva"}))
    grants = [
        {"grantee": "eva", "actions": ["deploy"], "object": "function:store"},
        {"grantee": "eva", "actions": ["invoke"], "object": "function:store"},
        {"grantee": "eva", "actions": ["read"], "object": "queue:private"},
        {"grantee": "eva", "actions": ["read", "write"], "object": "branch:main"},
        {"grantee": "eva", "actions": ["select", "insert"], "object": "table:processed"},
    ]
    for grant in grants:
        api("POST", "/v1/grants", grant)
    url = sent(sqs, "private", ["right-1"])
    mapping = eva.create_event_source_mapping(EventSourceArn=ARN + "private", FunctionName="store")
    until(lambda: len(rows("right")) == 1)
    api("DELETE", "/v1/grants?grantee=eva&actions=invoke&object=function:store")
    sqs.send_message(QueueUrl=url, MessageBody="right-2")
    result = until(lambda: [
        text for text in [eva.get_event_source_mapping(UUID=mapping["UUID"])["LastProcessingResult"]]
        if text.startswith("PROBLEM")
    ])
    assert "user `eva` may not invoke function `store`" in result[0], result
    assert sum(counts(sqs, url)) == 1 and len(rows("right")) == 1
    # With the right, the message is processed. Its rejected calls do not count as receptions.
    api("POST", "/v1/grants", grants[1])
    got = until(lambda: len(rows("right")) == 2 and rows("right"))
    assert {one["received"] for one in got} == {1}, got


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
    sizes(aws, sqs)
    visibility(aws, sqs)
    rights(aws, sqs)
    sys.stdout.write("ok\n")


main()
