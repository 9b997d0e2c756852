"""Configures notifications of a bucket with boto3, then changes objects.

    s3_notifications.py ENDPOINT

Needs: boto3, an access key in the environment, and the function `notify`.
"""

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ARN = "arn:aws:lambda:us-east-1:000000000000:function:notify"

s3 = boto3.client(
    "s3",
    endpoint_url=sys.argv[1],
    config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
)


def put(**configuration):
    s3.put_bucket_notification_configuration(
        Bucket="landing", NotificationConfiguration=configuration
    )


def get():
    return s3.get_bucket_notification_configuration(Bucket="landing")


def function(event="s3:ObjectCreated:Put", arn=ARN, identifier="new files"):
    rules = [{"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".csv"}]
    return {
        "Id": identifier,
        "LambdaFunctionArn": arn,
        "Events": [event],
        "Filter": {"Key": {"FilterRules": rules}},
    }


def fails(code, text, **configuration):
    try:
        put(**configuration)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        assert text in error.response["Error"]["Message"], error
    else:
        raise AssertionError(f"{configuration} was accepted")


s3.create_bucket(Bucket="landing")
assert "LambdaFunctionConfigurations" not in get()
put(LambdaFunctionConfigurations=[function(identifier="replaced")])
put(LambdaFunctionConfigurations=[function()])
assert get()["LambdaFunctionConfigurations"] == [function()], get()

# A rejected configuration changes nothing.
for event in ("s3:ObjectTagging:*", "s3:ObjectCreated:Post"):
    fails("InvalidArgument", event, LambdaFunctionConfigurations=[function(event=event)])
missing = function(arn=ARN.replace("notify", "missing"))
fails("InvalidArgument", "`missing`", LambdaFunctionConfigurations=[missing])
fails("InvalidArgument", "new files", LambdaFunctionConfigurations=[function(), function()])
queue = {"QueueArn": "arn:aws:sqs:us-east-1:000000000000:q", "Events": ["s3:ObjectCreated:*"]}
fails("NotImplemented", "queue", QueueConfigurations=[queue])
assert get()["LambdaFunctionConfigurations"] == [function()], get()

s3.put_object(Bucket="landing", Key="in/first.csv", Body=b"a\n1\n")
s3.put_object(Bucket="landing", Key="out/a.csv", Body=b"not selected")
source = {"Bucket": "landing", "Key": "out/a.csv"}
s3.copy_object(Bucket="landing", Key="in/copy.csv", CopySource=source)
s3.put_object(Bucket="landing", Key="in/last.csv", Body=b"a\n2\n")
print("ok")
