"""A webhook: receives a JSON object and returns it with its texts in upper case."""

import base64
import json


def upper(value):
    """Returns a value with all texts in it in upper case."""
    if isinstance(value, str):
        return value.upper()
    if isinstance(value, dict):
        return {key: upper(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [upper(inner) for inner in value]
    return value


def handler(event, context):
    body = event.get("body") or "{}"
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body)
    try:
        data = json.loads(body)
    except ValueError:
        return {"statusCode": 400, "body": json.dumps({"error": "the body is not JSON"})}
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(upper(data)),
    }
