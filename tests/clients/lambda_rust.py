"""Tests of a function in Rust with AWS's crate lambda_runtime, unmodified.

    lambda_rust.py URL TOKEN PROGRAM

PROGRAM is the built example. TOKEN is the owner's token for the HTTP API at URL.

Needs: boto3.
"""

import base64
import io
import sys
import zipfile

from lambda_client import ROLE, api, client, invoke

ARN = "arn:aws:lambda:us-east-1:000000000000:function:price"


def packed(program):
    """Returns a ZIP archive with the program as `bootstrap`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        entry = zipfile.ZipInfo("bootstrap")
        entry.create_system, entry.external_attr = 3, 0o100755 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        with open(program, "rb") as binary:
            file.writestr(entry, binary.read())
    return buffer.getvalue()


def log_of(response):
    return base64.b64decode(response["LogResult"]).decode()


def main():
    aws = client(api("POST", "/v1/access-keys", {}))
    made = aws.create_function(
        FunctionName="price",
        Runtime="provided.al2023",
        Role=ROLE,
        Handler="price",
        Timeout=30,
        Code={"ZipFile": packed(sys.argv[3])},
    )
    assert (made["FunctionArn"], made["State"]) == (ARN, "Active"), made
    order = {"items": [{"price": 250, "count": 2}, {"price": 100, "count": 5}]}
    requests = set()
    for _ in range(3):
        response, price = invoke(aws, "price", order, LogType="Tail")
        assert "FunctionError" not in response, (response, price)
        assert price["cents"] == 1_200, price
        assert price["function"] == ARN, price
        assert 0 < price["milliseconds_left"] <= 30_000, price
        assert price["request"] == response["ResponseMetadata"]["RequestId"], (price, response)
        requests.add(price["request"])
        log = log_of(response)
        assert "priced 2 items" in log, log
        assert f"REPORT RequestId: {price['request']}" in log, log
    assert len(requests) == 3, requests

    # An error of the handler, and an event that is not an order.
    for event, expected in [({"items": []}, "the order has no items"), ({}, "items")]:
        response, error = invoke(aws, "price", event)
        assert (response["StatusCode"], response["FunctionError"]) == (200, "Unhandled"), response
        assert expected in error["errorMessage"], error
        assert error["errorType"], error
    # The runtime survives errors.
    _, price = invoke(aws, "price", order)
    assert price["cents"] == 1_200, price
    print("ok")


main()
