"""Tests of streamed answers and of the client's context; a part of lambda_boto3.py.

Needs: boto3.
"""

import base64
import http.client
import json
import time

from lambda_client import archive, create, fails, fetch, invoke

STREAM = """
import time


def handler(event, context):
    kind = event.get("kind") or event.get("rawPath", "").strip("/")
    if kind == "context":
        sent = context.client_context
        return sent and [sent.client.app_title, sent.custom, sent.env]
    if kind == "plain":
        return {"plain": True}
    if kind == "fail":
        raise ValueError("before the answer")
    return pieces(kind)


def pieces(kind):
    if kind == "described":
        yield {"statusCode": 202, "headers": {"x-made": "yes", "content-type": "text/css"}}
    yield "first "
    if kind == "break":
        raise ValueError("within the answer")
    time.sleep(1 if kind == "slow" else 0)
    yield b"second"
    if kind == "large":
        for _ in range(80):
            yield bytes(100_000)
"""

NODE = """
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  stream.setContentType("text/plain");
  stream.write("one ");
  await new Promise((resolve) => setTimeout(resolve, event.wait ?? 0));
  if (event.fail) throw new Error("within");
  stream.write(context.clientContext?.custom?.word ?? "two");
  stream.end();
});
"""


def stream(aws, name, event, **more):
    """Calls a function. Returns the parts of the answer with their times, and the last event."""
    began = time.monotonic()
    response = aws.invoke_with_response_stream(
        FunctionName=name, Payload=json.dumps(event).encode(), **more
    )
    assert response["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    parts, end = [], None
    for item in response["EventStream"]:
        assert end is None, item
        if "PayloadChunk" in item:
            parts.append((time.monotonic() - began, item["PayloadChunk"]["Payload"]))
        else:
            end = item["InvokeComplete"]
    return parts, end


def joined(parts):
    return b"".join(part for _, part in parts)


def context_of(sent):
    return base64.b64encode(json.dumps(sent).encode()).decode()


def streams(aws, key):
    create(aws, "parts", Code={"ZipFile": archive(STREAM)})
    invoke(aws, "parts", {"kind": "plain"})
    parts, end = stream(aws, "parts", {"kind": "slow"}, LogType="Tail")
    assert joined(parts) == b"first second", parts
    assert parts[-1][0] - parts[0][0] > 0.5, f"the parts arrive together: {parts}"
    assert "ErrorCode" not in end and b"REPORT" in base64.b64decode(end["LogResult"]), end
    parts, end = stream(aws, "parts", {"kind": "large"})
    assert len(joined(parts)) == 8_000_012 and "ErrorCode" not in end, end
    parts, end = stream(aws, "parts", {"kind": "break"})
    assert joined(parts) == b"first " and end["ErrorCode"] == "ValueError", (parts, end)
    assert "within the answer" in end["ErrorDetails"], end
    parts, end = stream(aws, "parts", {"kind": "fail"})
    assert parts == [] and end["ErrorCode"] == "ValueError", (parts, end)
    parts, end = stream(aws, "parts", {"kind": "plain"})
    assert json.loads(joined(parts)) == {"plain": True}, parts
    fails("ResourceNotFoundException", stream, aws=aws, name="nothing", event={})
    # A client that does not stream gets the answer as a whole.
    assert invoke(aws, "parts", {"kind": "slow"})[1] == "first second"
    # A client that disconnects stops the function. The next call must succeed.
    aws.invoke_with_response_stream(FunctionName="parts", Payload=b'{"kind": "slow"}')
    assert joined(stream(aws, "parts", {"kind": "x"})[0]) == b"first second"

    sent = {"client": {"app_title": "shop"}, "custom": {"a": "ü"}, "env": {"b": 1}}
    got = invoke(aws, "parts", {"kind": "context"}, ClientContext=context_of(sent))[1]
    assert got == ["shop", {"a": "ü"}, {"b": 1}], got
    assert invoke(aws, "parts", {"kind": "context"})[1] is None
    arguments = {"name": "parts", "event": {}, "ClientContext": "no JSON"}
    fails("InvalidRequestContentException", invoke, aws=aws, **arguments)

    made = aws.create_function_url_config(
        FunctionName="parts", AuthType="AWS_IAM", InvokeMode="RESPONSE_STREAM"
    )
    assert made["InvokeMode"] == "RESPONSE_STREAM", made
    url = made["FunctionUrl"]
    status, headers, body = fetch(url + "x", key)
    assert (status, body) == (200, b"first second"), (status, body)
    assert headers["content-type"] == "text/plain; charset=utf-8", headers
    assert headers["transfer-encoding"] == "chunked" and "sandbox" in str(headers), headers
    status, headers, body = fetch(url + "described", key)
    assert (status, body, headers["x-made"]) == (202, b"first second", "yes"), (status, body)
    status, _, body = fetch(url + "plain", key)
    assert (status, json.loads(body)) == (200, {"plain": True}), body
    assert fetch(url + "fail", key)[0] == 502
    try:
        fetch(url + "break", key)
    except (http.client.IncompleteRead, http.client.HTTPException, ConnectionError):
        pass
    else:
        raise AssertionError("an incomplete answer looks complete")
    aws.update_function_url_config(FunctionName="parts", InvokeMode="BUFFERED")
    status, headers, body = fetch(url + "described", key)
    assert (status, body, headers["x-made"]) == (202, b"first second", "yes"), (status, body)
    assert headers.get("transfer-encoding") is None, headers
    aws.delete_function(FunctionName="parts")


def node_streams(aws):
    code = archive(NODE, "index.js")
    create(aws, "node", Runtime="nodejs22.x", Handler="index.handler", Code={"ZipFile": code})
    sent = context_of({"custom": {"word": "three"}})
    parts, end = stream(aws, "node", {"wait": 1000}, ClientContext=sent)
    assert joined(parts) == b"one three" and "ErrorCode" not in end, (parts, end)
    assert parts[-1][0] - parts[0][0] > 0.5, f"the parts arrive together: {parts}"
    parts, end = stream(aws, "node", {"fail": True})
    assert joined(parts) == b"one " and end["ErrorCode"] == "Error", (parts, end)
    assert invoke(aws, "node", {})[1] == "one two"
    aws.delete_function(FunctionName="node")
