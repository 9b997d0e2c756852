"""boto3 on SQS's API while the server is killed: no message is lost, and no deleted one returns.

    sqs_crash.py SERVER_JSON KILLS

SERVER_JSON contains the address of the server as `http`; the file changes with each start. The
script prints a line each time the server should be killed, KILLS times in all. Access keys are in
the environment.

Needs: boto3.
"""

import json
import random
import sys
import threading
import time

import boto3
import botocore.config
import botocore.exceptions

SERVER_JSON, KILLS = sys.argv[1], int(sys.argv[2])
SENDERS, RECEIVERS, MESSAGES_PER_KILL = 4, 3, 60
FAILURES = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)

lock = threading.Lock()
acknowledged, received, deleted, returned = set(), set(), {}, []
stopped = threading.Event()


def client():
    """Returns a client of the server that runs now."""
    with open(SERVER_JSON) as file:
        address = json.load(file)["http"]
    config = botocore.config.Config(
        retries={"max_attempts": 0}, connect_timeout=5, read_timeout=30
    )
    return boto3.session.Session().client(
        "sqs", endpoint_url=f"http://{address}", region_name="us-east-1", config=config
    )


def attempt(work):
    """Repeats work with a new client until it succeeds."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return work(client())
        except (*FAILURES, OSError, KeyError, ValueError):
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)


def send(sender):
    sqs = attempt(lambda sqs: sqs)
    number = 0
    while not stopped.is_set():
        number += 1
        body = f"{sender}/{number}"
        try:
            url = sqs.get_queue_url(QueueName="orders")["QueueUrl"]
            sqs.send_message(QueueUrl=url, MessageBody=body)
        except FAILURES:
            # It is unknown whether the message was sent.
            sqs = attempt(lambda sqs: sqs)
            continue
        with lock:
            acknowledged.add(body)
            if len(acknowledged) % MESSAGES_PER_KILL == 0:
                kills = len(acknowledged) // MESSAGES_PER_KILL
                if kills <= KILLS:
                    print("kill", flush=True)
                else:
                    stopped.set()


def receive_once(sqs, **options):
    """Receives messages and deletes most of them. Returns the number of messages."""
    url = sqs.get_queue_url(QueueName="orders")["QueueUrl"]
    began = time.monotonic()
    got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, **options).get("Messages", [])
    for one in got:
        with lock:
            received.add(one["Body"])
            # A message may be received while its deletion is under way, but not afterwards.
            if deleted.get(one["MessageId"], began) < began:
                returned.append(one["Body"])
        if random.random() < 0.8:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
            with lock:
                deleted[one["MessageId"]] = time.monotonic()
    return len(got)


def receive():
    sqs = attempt(lambda sqs: sqs)
    while not stopped.is_set():
        try:
            receive_once(sqs, WaitTimeSeconds=1)
        except FAILURES:
            sqs = attempt(lambda sqs: sqs)


def is_empty(sqs):
    url = sqs.get_queue_url(QueueName="orders")["QueueUrl"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return all(counts[name] == "0" for name in names)


def main():
    attributes = {"VisibilityTimeout": "2"}
    attempt(lambda sqs: sqs.create_queue(QueueName="orders", Attributes=attributes))
    threads = [threading.Thread(target=send, args=[n]) for n in range(SENDERS)]
    threads += [threading.Thread(target=receive) for _ in range(RECEIVERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while not attempt(is_empty):
        attempt(lambda sqs: receive_once(sqs, WaitTimeSeconds=2))
    lost = acknowledged - received
    assert not lost, f"{len(lost)} of {len(acknowledged)} lost: {sorted(lost)[:5]}"
    assert not returned, f"deleted messages returned: {returned[:5]}"
    print("ok", flush=True)


main()
