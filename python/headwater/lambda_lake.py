"""`headwater.lake` over HTTP in a sandbox, for runtimes in other languages than Python.

The process that serves the Lambda Runtime API also serves these requests, and passes them to the
server like requests of Python functions. The requests have the rights of the call. A request
contains the id of the running call as its token, so it is valid only during this call.
"""

from __future__ import annotations

import json
import os
import sys
from hmac import compare_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .http_connection import Request

#: The path of the requests.
ROOT = "/headwater/lake/"

_ARROW = "application/vnd.apache.arrow.stream"
_JSON = "application/json"

_STATUSES = {
    "forbidden": 403,
    "already_exists": 409,
    "merge_conflict": 409,
    "too_busy": 503,
    "unavailable": 503,
    "internal": 500,
}

_HINT = (
    "Use `POST query`, `POST append/TABLE`, `GET objects/BUCKET/KEY` or `PUT objects/BUCKET/KEY`."
)


def respond(request: Request, call: str | None) -> tuple[int, str, bytes]:
    """Executes a request. Returns the status, the media type and the body of the response.

    `call` is the id of the running call; None if no call is running.
    """
    token = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if call is None or not compare_digest(token.encode(), call.encode()):
        hint = "Send the header `Authorization: Bearer ID` with the request id of the call."
        return _failure(401, "unauthenticated", "the token is not the id of the running call", hint)
    channel = sys.modules.get("headwater_lake")
    if channel is None or not channel.is_connected():
        return _failure(503, "unavailable", "the lake is not available in this process", "")
    try:
        return _execute(channel, request)
    except (ValueError, RuntimeError) as error:
        return _failure(400, "invalid_argument", str(error), "")


def _execute(channel: Any, request: Request) -> tuple[int, str, bytes]:
    from urllib.parse import unquote

    method, path = request.method, request.path.removeprefix(ROOT)
    noun, _, rest = path.partition("/")
    bucket, _, key = (unquote(part) for part in rest.partition("/"))
    if method == "POST" and path == "query":
        is_json = _ARROW not in request.headers.get("accept", "")
        fields = {"operation": "query", "sql": request.body.decode(), "json": is_json}
        return _request(channel, None, fields, _JSON if is_json else _ARROW)
    if method == "POST" and noun == "append" and rest:
        fields = {"operation": "append_json", "table": unquote(rest)}
        return _request(channel, request.body, fields)
    if method == "GET" and noun == "objects" and key:
        fields = {"operation": "read_object", "bucket": bucket, "key": key}
        return _request(channel, None, fields, "application/octet-stream")
    if method == "PUT" and noun == "objects" and key:
        fields = {"operation": "put_object", "bucket": bucket, "key": key}
        return _request(channel, request.body, fields)
    reason = f"`{method} {request.path[:200]}` is not an operation of the lake"
    return _failure(404, "not_found", reason, _HINT)


def _request(
    channel: Any, body: bytes | None, fields: dict[str, Any], media_type: str | None = None
) -> tuple[int, str, bytes]:
    """Sends a request to the server. Without a media type, the response is the value as JSON."""
    file = None if body is None else channel.write(body)
    try:
        value, content, problem = channel.request(file, **fields)
    finally:
        if file is not None:
            os.close(file)
    if problem is not None:
        code = problem.get("code", "")
        status = 404 if code.endswith("_not_found") else _STATUSES.get(code, 400)
        return status, _JSON, json.dumps(problem).encode()
    if media_type is None:
        return 200, _JSON, json.dumps(value).encode()
    return 200, media_type, content


def _failure(status: int, code: str, message: str, hint: str) -> tuple[int, str, bytes]:
    problem = {"code": code, "message": message, "hint": hint or None}
    return status, _JSON, json.dumps(problem).encode()
