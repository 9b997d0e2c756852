"""Puts the numbered CSV files that are missing in a bucket, concurrently.

    put_objects.py ENDPOINT COUNT

A failed put is not repeated, because its object may exist. Prints the number of failures. Needs:
boto3, and an access key in the environment.
"""

import concurrent.futures
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ENDPOINT, COUNT = sys.argv[1], int(sys.argv[2])
# Disable retries, because a repeated request would create the object, and its event, twice.
s3 = boto3.client(
    "s3",
    endpoint_url=ENDPOINT,
    config=Config(
        s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, max_pool_connections=16
    ),
)


def put(index):
    text = f"file,value\n{index},{index * 3}\n{index},\n"
    try:
        s3.put_object(Bucket="landing", Key=f"in/{index}.csv", Body=text.encode(), IfNoneMatch="*")
    except ClientError as error:
        return error.response["Error"]["Code"] != "PreconditionFailed"
    except BotoCoreError:
        return True
    return False


def existing():
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="landing", Prefix="in/")
    return {item["Key"] for page in pages for item in page.get("Contents", [])}


try:
    s3.create_bucket(Bucket="landing")
except ClientError as error:
    if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
        raise
known = existing()
missing = [index for index in range(COUNT) if f"in/{index}.csv" not in known]
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    print(sum(pool.map(put, missing)))
