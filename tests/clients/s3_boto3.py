"""Tests of boto3 with the S3 endpoint: every supported operation, hostile keys, conditions, rights.

    s3_boto3.py ENDPOINT URL TOKEN

TOKEN is the owner's token for the HTTP API at URL. The test creates access keys.

Needs: boto3, requests.
"""

import concurrent.futures
import datetime
import hashlib
import io
import json
import sys
import urllib.request

import boto3
import requests
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

MIB = 1 << 20
PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
FUTURE = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)
ENDPOINT, URL, TOKEN = sys.argv[1:4]


def api(method, path, body=None):
    """Sends a request to the HTTP API as the owner."""
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read() or "null")


def client(key, **config):
    """Returns a client with an access key."""
    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        aws_access_key_id=key["key"]["id"],
        aws_secret_access_key=key["secret"],
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, **config),
    )


def fails(code, call, **arguments):
    """Checks that a call fails with a code of S3."""
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == code, f"{found} instead of {code}: {error}"
        return
    raise AssertionError(f"no error instead of {code}")


def read(s3, key, **arguments):
    """Returns the content of an object."""
    return s3.get_object(Bucket="landing", Key=key, **arguments)["Body"].read()


def buckets(s3):
    """Creates, lists, finds and deletes buckets."""
    s3.create_bucket(Bucket="landing")
    fails("BucketAlreadyOwnedByYou", s3.create_bucket, Bucket="landing")
    s3.create_bucket(Bucket="other")
    names = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert names == ["landing", "other"], names
    s3.head_bucket(Bucket="other")
    s3.put_object(Bucket="other", Key="a", Body=b"a")
    fails("BucketNotEmpty", s3.delete_bucket, Bucket="other")
    s3.delete_object(Bucket="other", Key="a")
    s3.delete_bucket(Bucket="other")
    fails("404", s3.head_bucket, Bucket="other")
    fails("NoSuchBucket", s3.put_object, Bucket="other", Key="a", Body=b"a")
    fails("NoSuchBucket", s3.list_objects_v2, Bucket="other")


def objects(s3):
    """Reads the content, headers and metadata of an object, and parts of its content."""
    content = b"id\n1\n"
    put = s3.put_object(
        Bucket="landing",
        Key="a.csv",
        Body=content,
        ContentType="text/csv",
        CacheControl="no-store",
        Metadata={"source": "test"},
    )
    assert put["ETag"].strip('"') == hashlib.md5(content).hexdigest()
    got = s3.get_object(Bucket="landing", Key="a.csv")
    assert got["Body"].read() == b"id\n1\n"
    assert (got["ContentType"], got["CacheControl"]) == ("text/csv", "no-store")
    assert got["Metadata"] == {"source": "test"}
    head = s3.head_object(Bucket="landing", Key="a.csv")
    assert (head["ContentLength"], head["ETag"]) == (5, put["ETag"])
    for given, expected in [("bytes=0-1", b"id"), ("bytes=3-", b"1\n"), ("bytes=-2", b"1\n")]:
        part = s3.get_object(Bucket="landing", Key="a.csv", Range=given)
        assert part["Body"].read() == expected
        assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    fails("InvalidRange", s3.get_object, Bucket="landing", Key="a.csv", Range="bytes=9-")
    fails("NoSuchKey", s3.get_object, Bucket="landing", Key="none")
    fails("404", s3.head_object, Bucket="landing", Key="none")
    s3.put_object(Bucket="landing", Key="empty", Body=b"")
    assert read(s3, "empty") == b""
    s3.put_object(Bucket="landing", Key="a.csv", Body=b"new")
    assert read(s3, "a.csv") == b"new"
    source = {"Bucket": "landing", "Key": "a.csv"}
    s3.copy_object(Bucket="landing", Key="copy", CopySource=source)
    assert read(s3, "copy") == b"new"
    replaced = {"MetadataDirective": "REPLACE", "Metadata": {"a": "b"}}
    s3.copy_object(Bucket="landing", Key="copy", CopySource="landing/copy", **replaced)
    assert s3.head_object(Bucket="landing", Key="copy")["Metadata"] == {"a": "b"}
    fails("InvalidRequest", s3.copy_object, Bucket="landing", Key="copy", CopySource="landing/copy")
    too_long = {"x": "y" * 2048}
    fails("MetadataTooLarge", s3.put_object, Bucket="landing", Key="m", Metadata=too_long)


def unmet(tag):
    """Returns conditions that the source of a copy with this entity tag does not meet."""
    return [
        {"CopySourceIfMatch": '"0"'},
        {"CopySourceIfNoneMatch": tag},
        {"CopySourceIfUnmodifiedSince": PAST},
        {"CopySourceIfModifiedSince": FUTURE},
    ]


def conditions(s3):
    """Tests conditional writes and reads, also concurrent ones."""
    put = lambda **more: s3.put_object(Bucket="landing", Key="once", **more)
    put(Body=b"1", IfNoneMatch="*")
    fails("PreconditionFailed", put, Body=b"2", IfNoneMatch="*")
    tag = s3.head_object(Bucket="landing", Key="once")["ETag"]
    tag = put(Body=b"3", IfMatch=tag)["ETag"]
    fails("PreconditionFailed", put, Body=b"4", IfMatch='"0"')
    fails("304", s3.get_object, Bucket="landing", Key="once", IfNoneMatch=tag)
    fails("PreconditionFailed", s3.get_object, Bucket="landing", Key="once", IfMatch='"0"')
    target = {"Bucket": "landing", "Key": "twice"}
    copy = lambda **more: s3.copy_object(**target, CopySource="landing/once", **more)
    for condition in unmet(tag):
        fails("PreconditionFailed", copy, **condition)
    # As in S3, a condition on the entity tag has priority over one on the time.
    copy(CopySourceIfMatch=tag, CopySourceIfUnmodifiedSince=PAST)
    copy(CopySourceIfNoneMatch='"0"', CopySourceIfModifiedSince=PAST)
    assert read(s3, "twice") == b"3"
    s3.delete_object(**target)

    def create(number):
        try:
            s3.put_object(Bucket="landing", Key="race", Body=str(number), IfNoneMatch="*")
            return number
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed", error
            return None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(create, range(16)) if number is not None]
    assert len(winners) == 1 and read(s3, "race") == str(winners[0]).encode()


def keys(s3):
    """Tests that a key is always a text and never a path."""
    hostile = ["a", "a/b", "a/", "/a", "a//b", "..", "../..", "../warehouse/x", "./a", "é ü", "日本"]
    hostile += ["a b+c&d=e%20f", "a\\b", "#?*", "objects/landing/a", "x" * 1024, "\U0001f600", "a\tb"]
    for number, key in enumerate(hostile):
        s3.put_object(Bucket="landing", Key="k/" + key[:1020], Body=str(number))
    for number, key in enumerate(hostile):
        assert read(s3, "k/" + key[:1020]) == str(number).encode(), key
    found = s3.list_objects_v2(Bucket="landing", Prefix="k/")["Contents"]
    expected = sorted(("k/" + key[:1020] for key in hostile), key=lambda key: key.encode())
    assert [entry["Key"] for entry in found] == expected
    for key in ["..", "a/../../x", "//", "x" * 1024]:
        s3.put_object(Bucket="landing", Key=key, Body=key)
        assert read(s3, key) == key.encode()
        s3.delete_object(Bucket="landing", Key=key)
    fails("KeyTooLongError", s3.put_object, Bucket="landing", Key="x" * 1025, Body=b"")
    fails("InvalidArgument", s3.put_object, Bucket="landing", Key="a\0b", Body=b"")


def listings(s3):
    """Tests that listings are ordered, split into pages, and grouped by a delimiter."""
    names = [f"l/{folder}/{number:03}" for folder in "abc" for number in range(40)]
    names += ["l/a", "l/a.txt", "l/z"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket="landing", Key=key, Body=b"x"), names))
    for operation in ["list_objects", "list_objects_v2"]:
        for size in [1, 7, 1000]:
            pages = s3.get_paginator(operation).paginate(
                Bucket="landing", Prefix="l/", PaginationConfig={"PageSize": size}
            )
            found = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
            assert found == sorted(names), (operation, size)
        for size in [1, 2, 3, 1000]:
            pages = list(
                s3.get_paginator(operation).paginate(
                    Bucket="landing",
                    Prefix="l/",
                    Delimiter="/",
                    PaginationConfig={"PageSize": size},
                )
            )
            found = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
            groups = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])]
            assert found == ["l/a", "l/a.txt", "l/z"], (operation, size, found)
            assert groups == ["l/a/", "l/b/", "l/c/"], (operation, size, groups)
    after = s3.list_objects_v2(Bucket="landing", Prefix="l/", StartAfter="l/c/038")
    assert [entry["Key"] for entry in after["Contents"]] == ["l/c/039", "l/z"]
    doomed = [{"Key": name} for name in names]
    deleted = s3.delete_objects(Bucket="landing", Delete={"Objects": doomed + [{"Key": "none"}]})
    assert len(deleted["Deleted"]) == len(names) + 1 and "Errors" not in deleted
    assert s3.list_objects_v2(Bucket="landing", Prefix="l/")["KeyCount"] == 0


def multipart(s3):
    """Tests that a multipart upload creates the object atomically, or not at all."""
    target = {"Bucket": "landing", "Key": "big"}
    upload = s3.create_multipart_upload(**target, ContentType="text/plain", Metadata={"a": "b"})
    target["UploadId"] = upload["UploadId"]
    first, second = b"1" * (5 * MIB), b"2" * 1000
    parts = []
    for number, content in [(2, second), (1, b"old"), (1, first)]:
        tag = s3.upload_part(**target, PartNumber=number, Body=content)["ETag"]
        parts = [part for part in parts if part["PartNumber"] != number]
        parts.append({"PartNumber": number, "ETag": tag})
    s3.upload_part(**target, PartNumber=9, Body=b"unused")
    parts.sort(key=lambda part: part["PartNumber"])
    listed = s3.list_parts(**target)["Parts"]
    assert [part["Size"] for part in listed] == [5 * MIB, 1000, 6]
    uploads = s3.list_multipart_uploads(Bucket="landing")["Uploads"]
    assert [one["UploadId"] for one in uploads] == [upload["UploadId"]]
    fails("404", s3.head_object, Bucket="landing", Key="big")
    complete = lambda parts: s3.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
    fails("InvalidPartOrder", complete, parts=parts[::-1])
    fails("InvalidPart", complete, parts=[{"PartNumber": 1, "ETag": '"0"'}])
    done = complete(parts)
    assert done["ETag"].endswith('-2"') and complete(parts)["ETag"] == done["ETag"]
    assert read(s3, "big") == first + second
    assert read(s3, "big", Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}") == b"1122"
    assert s3.head_object(Bucket="landing", Key="big")["Metadata"] == {"a": "b"}
    fails("NoSuchUpload", s3.upload_part, **target, PartNumber=1, Body=b"late")

    target = {"Bucket": "landing", "Key": "copied"}
    target["UploadId"] = s3.create_multipart_upload(**target)["UploadId"]
    source = {"CopySource": "landing/big", "CopySourceRange": "bytes=0-9"}
    copy = lambda **more: s3.upload_part_copy(**target, PartNumber=1, **source, **more)
    for condition in unmet(done["ETag"]):
        fails("PreconditionFailed", copy, **condition)
    tag = copy(CopySourceIfMatch=done["ETag"])["CopyPartResult"]["ETag"]
    complete([{"PartNumber": 1, "ETag": tag}])
    assert read(s3, "copied") == b"1" * 10

    target["UploadId"] = s3.create_multipart_upload(Bucket="landing", Key="copied")["UploadId"]
    s3.upload_part(**target, PartNumber=1, Body=b"small")
    two = [s3.upload_part(**target, PartNumber=n, Body=b"small")["ETag"] for n in (1, 2)]
    small = [{"PartNumber": n + 1, "ETag": tag} for n, tag in enumerate(two)]
    fails("EntityTooSmall", complete, parts=small)
    s3.abort_multipart_upload(**target)
    fails("NoSuchUpload", s3.list_parts, **target)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="landing")

    content = bytes(range(256)) * (70 * 4096)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB)
    s3.upload_fileobj(io.BytesIO(content), "landing", "transfer", Config=config)
    received = io.BytesIO()
    s3.download_fileobj("landing", "transfer", received, Config=config)
    assert received.getvalue() == content


def checksums(s3):
    """Tests that content with a wrong checksum is not stored."""
    for name in ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"]:
        try:
            s3.put_object(Bucket="landing", Key="sum", Body=name, ChecksumAlgorithm=name)
        except Exception as error:  # The package for some algorithms is not installed.
            assert "crt" in str(error), error
            continue
        assert read(s3, "sum") == name.encode()
    wrong = "AAAAAA=="
    fails("BadDigest", s3.put_object, Bucket="landing", Key="bad", Body=b"x", ChecksumCRC32=wrong)
    wrong = "1B2M2Y8AsgTpgAmY7PhCfg=="
    fails("BadDigest", s3.put_object, Bucket="landing", Key="bad", Body=b"x", ContentMD5=wrong)
    fails("404", s3.head_object, Bucket="landing", Key="bad")


def signatures(s3, key):
    """Tests that a request needs a valid signature, in its headers or in its URL."""
    target = {"Bucket": "landing", "Key": "url é"}
    url = s3.generate_presigned_url("put_object", Params=target, ExpiresIn=60)
    assert requests.put(url, data=b"by url").status_code == 200
    url = s3.generate_presigned_url("get_object", Params=target, ExpiresIn=60)
    assert requests.get(url).content == b"by url"
    assert requests.delete(url).status_code == 403
    assert requests.get(url.replace("url", "copy")).status_code == 403
    expired = s3.generate_presigned_url("get_object", Params=target, ExpiresIn=0)
    assert requests.get(expired).status_code == 403
    assert requests.get(f"{ENDPOINT}/landing/copy").status_code == 403
    assert requests.get(ENDPOINT, headers={"authorization": f"Bearer {TOKEN}"}).status_code >= 400
    wrong = client({"key": key["key"], "secret": "hws_" + "0" * 56})
    fails("SignatureDoesNotMatch", wrong.list_buckets)
    unknown = client({"key": {"id": "HWAKAAAAAAAAAAAAAAAA"}, "secret": key["secret"]})
    fails("InvalidAccessKeyId", unknown.list_buckets)


def rights(owner):
    """Tests that grants and the scopes of a key limit a user's rights, and that changes apply to
    the next request."""
    api("POST", "/v1/users", {"name": "eve", "kind": "service"})
    eve = api("POST", "/v1/access-keys", {"user": "eve"})
    s3 = client(eve)
    assert s3.list_buckets()["Buckets"] == []
    for call, arguments in [
        (s3.list_objects_v2, {"Bucket": "landing"}),
        (s3.get_object, {"Bucket": "landing", "Key": "a.csv"}),
        (s3.get_object, {"Bucket": "none", "Key": "a.csv"}),
        (s3.put_object, {"Bucket": "landing", "Key": "in/a", "Body": b""}),
        (s3.delete_object, {"Bucket": "landing", "Key": "a.csv"}),
        (s3.create_bucket, {"Bucket": "mine"}),
        (s3.delete_bucket, {"Bucket": "landing"}),
        (s3.create_multipart_upload, {"Bucket": "landing", "Key": "in/a"}),
        (s3.list_multipart_uploads, {"Bucket": "landing"}),
    ]:
        fails("AccessDenied", call, **arguments)
    refused = s3.delete_objects(Bucket="landing", Delete={"Objects": [{"Key": "a.csv"}]})
    assert refused["Errors"][0]["Code"] == "AccessDenied"

    grant = {"grantee": "eve", "actions": ["read", "write", "list"], "object": "bucket:landing/in"}
    api("POST", "/v1/grants", grant)
    s3.put_object(Bucket="landing", Key="in/a", Body=b"1")
    assert read(s3, "in/a") == b"1"
    listed = s3.list_objects_v2(Bucket="landing", Prefix="in/")["Contents"]
    assert [entry["Key"] for entry in listed] == ["in/a"]
    # The prefix `in` also matches keys outside of the granted prefix `in/`.
    fails("AccessDenied", s3.list_objects_v2, Bucket="landing", Prefix="in")
    fails("AccessDenied", s3.delete_object, Bucket="landing", Key="in/a")
    copy = {"CopySource": "landing/a.csv"}
    fails("AccessDenied", s3.copy_object, Bucket="landing", Key="in/b", **copy)

    scopes = [{"actions": ["read"], "object": "bucket:landing/in"}]
    limited = client(api("POST", "/v1/access-keys", {"user": "eve", "scopes": scopes}))
    assert read(limited, "in/a") == b"1"
    fails("AccessDenied", limited.put_object, Bucket="landing", Key="in/a", Body=b"2")

    api("POST", "/v1/grants", {"grantee": "eve", "actions": ["create"], "object": "bucket:eve-*"})
    s3.create_bucket(Bucket="eve-own")
    s3.put_object(Bucket="eve-own", Key="a", Body=b"own")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [
        "eve-own",
        "landing",
    ]
    api("DELETE", f"/v1/access-keys/{eve['key']['id']}")
    fails("InvalidAccessKeyId", s3.get_object, Bucket="landing", Key="in/a")
    used = {key["id"]: key["last_used"] for key in api("GET", "/v1/access-keys?user=eve")}
    assert used[eve["key"]["id"]] is not None
    owner.delete_object(Bucket="eve-own", Key="a")


def main():
    """Runs all checks on a new lake."""
    key = api("POST", "/v1/access-keys", {"label": "test"})
    s3 = client(key)
    for check in [buckets, objects, conditions, keys, listings, multipart, checksums]:
        check(s3)
    signatures(s3, key)
    rights(s3)
    print("ok")


if __name__ == "__main__":
    main()
