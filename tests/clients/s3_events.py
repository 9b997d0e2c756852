"""Changes objects with boto3. Triggers of these changes call functions.

    s3_events.py ENDPOINT

Needs: boto3, and an access key in the environment.
"""

import sys

import boto3
from botocore.config import Config

MIB = 1 << 20
s3 = boto3.client(
    "s3",
    endpoint_url=sys.argv[1],
    config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
)

s3.create_bucket(Bucket="landing")
s3.put_object(Bucket="landing", Key="in/Happy Face+é.csv", Body=b"a\n1\n")
s3.put_object(Bucket="landing", Key="in/note.txt", Body=b"not selected")
s3.put_object(Bucket="landing", Key="out/a.csv", Body=b"not selected")
s3.copy_object(
    Bucket="landing", Key="in/copy.csv", CopySource={"Bucket": "landing", "Key": "out/a.csv"}
)
upload = s3.create_multipart_upload(Bucket="landing", Key="in/large.csv")["UploadId"]
target = {"Bucket": "landing", "Key": "in/large.csv", "UploadId": upload}
parts = []
for number, body in ((1, b"x" * 5 * MIB), (2, b"y")):
    etag = s3.upload_part(PartNumber=number, Body=body, **target)["ETag"]
    parts.append({"PartNumber": number, "ETag": etag})
s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **target)
s3.delete_object(Bucket="landing", Key="in/copy.csv")
s3.delete_objects(
    Bucket="landing",
    Delete={"Objects": [{"Key": "in/large.csv"}, {"Key": "in/absent.csv"}]},
)
print("ok")
