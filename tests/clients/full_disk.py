"""Puts objects on a full disk, frees space, and checks that each accepted object is imported once.

    full_disk.py HEADWATER

Needs: boto3, and a mount namespace of its own, in which it mounts a file system of 64 MiB on the
folder `lake`. Prints `ok`.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

HEADWATER = sys.argv[1]
MANIFEST = """
[project]
name = "full"

[[trigger]]
name = "landing"
bucket = { name = "landing" }
import = { table = "readings" }
"""


def run(*arguments):
    command = [HEADWATER, *arguments]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ended.returncode == 0, f"{arguments}: {ended.stdout} {ended.stderr}"
    return ended.stdout


def document(*arguments):
    return json.loads(run(*arguments, "--output", "json"))


def until(what, done):
    deadline = time.monotonic() + 180
    while not done():
        assert time.monotonic() < deadline, f"timeout: {what}"
        time.sleep(0.1)


def fill(path):
    """Fills the disk to the last byte."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def rows():
    ended = subprocess.run(
        [HEADWATER, "query", "SELECT count(*) AS n FROM readings", "--output", "json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return json.loads(ended.stdout)[0]["n"] if ended.returncode == 0 else 0


def put(s3, index):
    """Puts an object. Returns true if the server accepted it. Checks the error of a rejection."""
    body = f"file,text\n{index},{'x' * 20_000}\n".encode()
    try:
        s3.put_object(Bucket="landing", Key=f"{index}.csv", Body=body)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        message = error.response["Error"]["Message"]
        assert status == 507 and "no space" in message.lower(), f"{status} {message}"
        return False
    return True


def endpoint(server):
    """Returns the address of the S3 endpoint of a server, after the server has started."""
    address = None

    def is_ready():
        nonlocal address
        try:
            record = json.loads(pathlib.Path(".headwater/server.json").read_text())
        except (OSError, ValueError):
            return False
        address = record.get("s3")
        return record["pid"] == server.pid and address is not None

    until("the server answers", is_ready)
    return f"http://{address}"


def main():
    pathlib.Path("lake").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "lake"], check=True)
    os.chdir("lake")
    pathlib.Path("headwater.toml").write_text(MANIFEST)
    run("init")
    run("deploy")
    lines = [line.strip().partition("=") for line in run("key", "create").splitlines()]
    key = {name: value for name, sign, value in lines if sign}
    run("stop")
    command = [HEADWATER, "serve", "--http", "127.0.0.1:0", "--s3", "127.0.0.1:0"]
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, **output)
    try:
        s3 = boto3.client(
            "s3",
            endpoint_url=endpoint(server),
            aws_access_key_id=key["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=key["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )
        check(s3)
    finally:
        server.terminate()
        server.wait()
    print("ok")


def check(s3):
    s3.create_bucket(Bucket="landing")
    assert put(s3, 0)
    until("the first object is imported", lambda: rows() == 1)
    # The disk becomes full while the imports of these objects are pending or run.
    accepted = 1 + sum(put(s3, index) for index in range(1, 20))
    fill("filler")
    refused = 0
    for index in range(20, 120):
        if put(s3, index):
            accepted += 1
        else:
            refused += 1
    assert refused > 0, "the disk was not full"
    pathlib.Path("filler").unlink()
    until(f"{accepted} objects are imported", lambda: rows() == accepted)
    assert put(s3, 1_000), "the disk has space again"
    accepted += 1
    until("the last object is imported", lambda: rows() == accepted)
    open_events = ("event", "ls", "--status", "pending,running")
    until("no event is open", lambda: document(*open_events) == [])
    assert document("event", "ls", "--status", "failed") == []
    assert rows() == accepted


main()
