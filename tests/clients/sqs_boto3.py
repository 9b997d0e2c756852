"""Tests of boto3 with SQS's API: every supported operation, errors, rights.

    sqs_boto3.py URL TOKEN

TOKEN is the owner's token for the HTTP API at URL. The test creates users and access keys.

Needs: boto3.
"""

import json
import sys
import threading
import time

import boto3
import botocore.config
import botocore.exceptions

from lambda_client import QUEUES, URL, api, sqs_client

DEAD = QUEUES + "dead"


def client(user=None):
    made = api("POST", "/v1/access-keys", {} if user is None else {"user": user})
    return sqs_client(made, config=botocore.config.Config(retries={"max_attempts": 0}))


def fails(code, call, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return error.response["Error"]["Message"]
    raise AssertionError(f"no error {code}")


def queues(sqs):
    url = sqs.create_queue(QueueName="orders", Attributes={"VisibilityTimeout": "3"})["QueueUrl"]
    assert url.endswith("/000000000000/orders"), url
    assert sqs.create_queue(QueueName="orders")["QueueUrl"] == url
    attributes = {"VisibilityTimeout": "2"}
    fails("QueueAlreadyExists", sqs.create_queue, QueueName="orders", Attributes=attributes)
    fails("InvalidParameterValue", sqs.create_queue, QueueName="a b")
    assert sqs.get_queue_url(QueueName="orders")["QueueUrl"] == url
    fails("AWS.SimpleQueueService.NonExistentQueue", sqs.get_queue_url, QueueName="none")
    sqs.create_queue(QueueName="other")
    assert len(sqs.list_queues()["QueueUrls"]) == 2
    assert sqs.list_queues(QueueNamePrefix="ord")["QueueUrls"] == [url]
    first = sqs.list_queues(MaxResults=1)
    second = sqs.list_queues(MaxResults=1, NextToken=first["NextToken"])
    assert first["QueueUrls"] == [url] and len(second["QueueUrls"]) == 1, (first, second)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"MessageRetentionPeriod": "3600"})
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (got["MessageRetentionPeriod"], got["VisibilityTimeout"]) == ("3600", "3"), got
    assert got["QueueArn"].endswith(":orders"), got
    sqs.tag_queue(QueueUrl=url, Tags={"team": "shop", "stage": "test"})
    sqs.untag_queue(QueueUrl=url, TagKeys=["stage"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"team": "shop"}
    sqs.delete_queue(QueueUrl=second["QueueUrls"][0])
    assert sqs.list_queues()["QueueUrls"] == [url]
    return url


def messages(sqs, url):
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    typed = {
        "kind": {"DataType": "String", "StringValue": "new"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    sent = sqs.send_message(QueueUrl=url, MessageBody="one é", MessageAttributes=typed)
    assert sent["MD5OfMessageBody"] and sent["MD5OfMessageAttributes"], sent
    # A message that must stay in flight has a long timeout, so that a slow machine changes nothing.
    in_flight = {"QueueUrl": url, "VisibilityTimeout": 600}
    got = sqs.receive_message(
        **in_flight, AttributeNames=["All"], MessageAttributeNames=["All"]
    )["Messages"][0]
    assert (got["MessageId"], got["Body"]) == (sent["MessageId"], "one é"), got
    assert got["MD5OfBody"] == sent["MD5OfMessageBody"], got
    assert got["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"], got
    assert got["MessageAttributes"]["raw"]["BinaryValue"] == b"\x00\xff", got
    assert got["Attributes"]["ApproximateReceiveCount"] == "1", got
    # A received message is invisible.
    counted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    got_counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counted)["Attributes"]
    assert [got_counts[name] for name in counted] == ["0", "1"], got_counts

    def end_timeout(received):
        handle = received["ReceiptHandle"]
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)

    # After the visibility timeout of the queue, the message is received again.
    end_timeout(got)
    assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1
    again = sqs.receive_message(**in_flight, WaitTimeSeconds=20, AttributeNames=["All"])
    again = again["Messages"][0]
    assert again["Attributes"]["ApproximateReceiveCount"] == "3", again
    # An earlier receipt handle is invalid after a later reception. The last handle is valid.
    sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])
    end_timeout(again)
    last = sqs.receive_message(**in_flight)["Messages"][0]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=last["ReceiptHandle"])
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    change = {"QueueUrl": url, "ReceiptHandle": last["ReceiptHandle"], "VisibilityTimeout": 5}
    fails("AWS.SimpleQueueService.MessageNotInflight", sqs.change_message_visibility, **change)
    fails("ReceiptHandleIsInvalid", sqs.delete_message, QueueUrl=url, ReceiptHandle="x")
    fails("InvalidParameterValue", sqs.send_message, QueueUrl=url, MessageBody="x", DelaySeconds=901)
    fails("InvalidMessageContents", sqs.send_message, QueueUrl=url, MessageBody="a\x01")
    large = "x" * (1 << 20) + "y"
    fails("InvalidParameterValue", sqs.send_message, QueueUrl=url, MessageBody=large)

    entries = [{"Id": str(n), "MessageBody": f"batch {n}"} for n in range(10)]
    entries[3]["DelaySeconds"] = 1_000
    sent = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert len(sent["Successful"]) == 9 and sent["Failed"][0]["Id"] == "3", sent
    got = sqs.receive_message(**in_flight, MaxNumberOfMessages=10)["Messages"]
    assert len(got) == 9, got
    entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(got)]
    deleted = sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    assert len(deleted["Successful"]) == 9, deleted
    fails("AWS.SimpleQueueService.EmptyBatchRequest", sqs.send_message_batch, QueueUrl=url, Entries=[])
    same = [{"Id": "a", "MessageBody": "x"}] * 2
    code = "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"
    fails(code, sqs.send_message_batch, QueueUrl=url, Entries=same)

    # A waiting receiver gets a new message immediately.
    timer = threading.Timer(0.3, sqs.send_message, kwargs={"QueueUrl": url, "MessageBody": "late"})
    timer.start()
    began = time.monotonic()
    got = sqs.receive_message(**in_flight, WaitTimeSeconds=20)["Messages"][0]
    assert got["Body"] == "late" and time.monotonic() - began < 15, got
    timer.join()
    sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])
    sqs.send_message(QueueUrl=url, MessageBody="delayed", DelaySeconds=1)
    got = sqs.receive_message(**in_flight, WaitTimeSeconds=20)["Messages"][0]
    assert got["Body"] == "delayed", got
    sqs.send_message(QueueUrl=url, MessageBody="delayed", DelaySeconds=900)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    sqs.purge_queue(QueueUrl=url)
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=2)


def dead_letters(sqs):
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": DEAD, "maxReceiveCount": 2})
    attributes = {"RedrivePolicy": policy, "VisibilityTimeout": "0"}
    url = sqs.create_queue(QueueName="tried", Attributes=attributes)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="poison")
    for _ in range(2):
        assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    got = sqs.receive_message(QueueUrl=dead)["Messages"]
    assert [one["Body"] for one in got] == ["poison"], got
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url]
    own = policy.replace(":dead", ":tried")
    change = {"QueueUrl": url, "Attributes": {"RedrivePolicy": own}}
    fails("InvalidParameterValue", sqs.set_queue_attributes, **change)
    missing = json.dumps({"deadLetterTargetArn": DEAD + "er", "maxReceiveCount": 2})
    code = "AWS.SimpleQueueService.NonExistentQueue"
    fails(code, sqs.create_queue, QueueName="x", Attributes={"RedrivePolicy": missing})


def fifo(sqs):
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = sqs.create_queue(QueueName="steps.fifo", Attributes=attributes)["QueueUrl"]
    fails("InvalidParameterValue", sqs.create_queue, QueueName="steps", Attributes=attributes)
    fails("MissingParameter", sqs.send_message, QueueUrl=url, MessageBody="x")

    def send(body, group, **more):
        return sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group, **more)

    first = send("1", "a")
    assert send("1", "a")["MessageId"] == first["MessageId"]
    assert send("1", "a", MessageDeduplicationId="other")["MessageId"] != first["MessageId"]
    second = send("2", "b")
    assert second["SequenceNumber"] > first["SequenceNumber"]
    got = sqs.receive_message(QueueUrl=url, AttributeNames=["All"])["Messages"][0]
    assert got["Attributes"]["MessageGroupId"] == "a", got
    # The group's next message waits until the received message is deleted.
    others = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert [one["Body"] for one in others] == ["2"], others
    sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])
    rest = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert [one["Body"] for one in rest] == ["1"], rest


def rights(url):
    api("POST", "/v1/users", {"name": "ana", "kind": "service"})
    ana = client("ana")
    fails("AccessDeniedException", ana.send_message, QueueUrl=url, MessageBody="x")
    fails("AccessDeniedException", ana.create_queue, QueueName="mine")
    fails("AWS.SimpleQueueService.NonExistentQueue", ana.get_queue_url, QueueName="orders")
    assert "QueueUrls" not in ana.list_queues() or ana.list_queues()["QueueUrls"] == []
    grant = {"grantee": "ana", "actions": ["write"], "object": "queue:ord*"}
    api("POST", "/v1/grants", grant)
    ana.send_message(QueueUrl=url, MessageBody="from ana")
    fails("AccessDeniedException", ana.receive_message, QueueUrl=url)
    fails("AccessDeniedException", ana.purge_queue, QueueUrl=url)
    assert ana.list_queues()["QueueUrls"] == [url]
    forged = boto3.client(
        "sqs", endpoint_url=URL, region_name="us-east-1",
        aws_access_key_id="HW0000000000000000", aws_secret_access_key="x",
    )
    fails("UnrecognizedClientException", forged.list_queues)


if __name__ == "__main__":
    sqs = client()
    url = queues(sqs)
    messages(sqs, url)
    dead_letters(sqs)
    fifo(sqs)
    rights(url)
    sys.stdout.write("ok\n")
