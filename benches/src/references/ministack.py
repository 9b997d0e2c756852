"""Deploys the functions of the suite `events` in MiniStack.

    ministack.py ENDPOINT FILE

The handler of the function `clean` appends the time of each call, in nanoseconds, to FILE.
"""

import io
import sys
import zipfile

import boto3

ENDPOINT, FILE = sys.argv[1:]
SOURCE = f"""
import time

def nothing(event, context):
    return True

def clean(event, context):
    with open({FILE!r}, "a") as file:
        file.write(f"{{time.time_ns()}}\\n")
    return True
"""

keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
options = {"endpoint_url": ENDPOINT, "region_name": "us-east-1", **keys}
functions, buckets = boto3.client("lambda", **options), boto3.client("s3", **options)
archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as file:
    file.writestr("app.py", SOURCE)


def create(name):
    return functions.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role="arn:aws:iam::000000000000:role/any",
        Handler=f"app.{name}",
        Code={"ZipFile": archive.getvalue()},
        Timeout=60,
    )["FunctionArn"]


create("nothing")
buckets.create_bucket(Bucket="landing")
rule = {"LambdaFunctionArn": create("clean"), "Events": ["s3:ObjectCreated:*"]}
buckets.put_bucket_notification_configuration(
    Bucket="landing", NotificationConfiguration={"LambdaFunctionConfigurations": [rule]}
)
