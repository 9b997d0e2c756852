"""Causes events in the shapes of AWS: an object, messages of a queue, requests to function URLs.

    event_shapes.py URL S3_URL TOKEN

Prints JSON: the events of the requests to the function URL, and a value that the function returned
as a response. The triggers of the test's project receive the other events.

Needs: boto3.
"""

import json
import sys

import boto3

URL, S3_URL, TOKEN = sys.argv[1:4]
# The helpers read the first two arguments.
sys.argv[1:] = [URL, TOKEN]

from lambda_client import ROLE, api, archive, client, fetch  # noqa: E402

ECHO = """
import json


def handler(event, context):
    if event["rawPath"] == "/respond":
        return json.loads(event["body"])
    return {"echo": event}
"""

RESPONSE = {
    "statusCode": 201,
    "headers": {"x-made": "yes", "content-type": "text/plain"},
    "cookies": ["a=1"],
    "body": "aGk=",
    "isBase64Encoded": True,
}


def main():
    key = api("POST", "/v1/access-keys", {})
    secrets = dict(
        aws_access_key_id=key["key"]["id"],
        aws_secret_access_key=key["secret"],
        region_name="us-east-1",
    )
    s3 = boto3.client("s3", endpoint_url=S3_URL, **secrets)
    s3.create_bucket(Bucket="landing")
    s3.put_object(Bucket="landing", Key="in/Happy Face.csv", Body=b"a\n1\n")
    s3.delete_object(Bucket="landing", Key="in/Happy Face.csv")

    sqs = boto3.client("sqs", endpoint_url=URL, **secrets)
    for name, attributes in [("orders", {}), ("orders.fifo", {"FifoQueue": "true"})]:
        queue = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        more = {"MessageGroupId": "g", "MessageDeduplicationId": "d"} if attributes else {}
        sqs.send_message(
            QueueUrl=queue,
            MessageBody="text",
            MessageAttributes={
                "text": {"DataType": "String", "StringValue": "a"},
                "number": {"DataType": "Number.int", "StringValue": "7"},
                "binary": {"DataType": "Binary", "BinaryValue": b"1100"},
            },
            **more,
        )

    aws = client(key)
    aws.create_function(
        FunctionName="web",
        Runtime="python3.11",
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": archive(ECHO)},
    )
    url = aws.create_function_url_config(FunctionName="web", AuthType="NONE")["FunctionUrl"]
    sent = dict(data=b'{"n": 1}', content_type="application/json", cookie="c=1; d=2")
    echo = json.loads(fetch(url + "my/path?x=1&x=2&y=z", user_agent="test", **sent)[2])["echo"]
    status, headers, body = fetch(
        url + "respond", data=json.dumps(RESPONSE).encode(), content_type="application/json"
    )
    assert (status, body) == (201, b"hi"), (status, body)
    assert (headers["x-made"], headers["set-cookie"]) == ("yes", "a=1"), headers
    aws.update_function_url_config(FunctionName="web", AuthType="AWS_IAM")
    signed = json.loads(fetch(url + "my/path?x=1", key, method="POST", user_agent="test", **sent)[2])["echo"]
    print(json.dumps({"url": echo, "signed": signed, "response": RESPONSE}))


main()
