"""Answers of a Lambda runtime: results, errors, and results with an error in their trailers."""

from __future__ import annotations

import base64
import itertools
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, NoReturn

    from .http_connection import Request

#: Media type of a streamed HTTP response: JSON with status and headers, 8 zero bytes, the body.
_HTTP_RESPONSE = "application/vnd.awslambda.http-integration-response"
_SEPARATOR = bytes(8)

_BYTES = "application/octet-stream"

_ERROR_TYPE = "lambda-runtime-function-error-type"
_ERROR_BODY = "lambda-runtime-function-error-body"

#: Maximum number of lines of a stack trace in an error message.
_LINES_MAX = 50


class RuntimeFailed(Exception):
    """An error that a runtime reported, or the end of a runtime."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        #: The name of the exception that users see.
        self.headwater_name = kind


def read_response(request: Request) -> Callable[[], Any]:
    """Reads the response to an event. Returns a function that returns the result, or raises the
    error in the response's trailers."""
    kind = request.trailers.get(_ERROR_TYPE)
    if kind:
        try:
            body = base64.b64decode(request.trailers.get(_ERROR_BODY, ""))
        except ValueError:
            body = b""
        return _error(kind, body)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    body = request.body
    return lambda: _http_response(body) if media_type == _HTTP_RESPONSE else _decoded(body)


def read_error(request: Request) -> Callable[[], NoReturn]:
    """Reads an error that a runtime reports. Returns a function that raises the error."""
    return _error(request.headers.get(_ERROR_TYPE, ""), request.body)


def _error(kind: str, body: bytes) -> Callable[[], NoReturn]:
    try:
        described = json.loads(body)
    except ValueError:
        described = None
    if not isinstance(described, dict):
        described = {"errorMessage": body.decode(errors="replace")}
    name = described.get("errorType") or kind or "Runtime.Unknown"
    trace = described.get("stackTrace") or described.get("trace") or []
    trace = [trace] if isinstance(trace, str) else trace if isinstance(trace, list) else []
    lines = [str(line).rstrip() for line in trace[:_LINES_MAX]]
    message = "\n".join([str(described.get("errorMessage") or ""), *lines])

    def answer() -> NoReturn:
        raise RuntimeFailed(str(name), message)

    return answer


def answer_of(pieces: Iterator[Any]) -> Any:
    """Returns the answer of a handler that is a generator of text or bytes, or the generator itself
    if it yields other values.

    The first value may be a dict with the `statusCode` and `headers` of an HTTP response.
    """
    first = next(pieces, b"")
    if isinstance(first, dict) and "statusCode" in first:
        head = json.dumps(first).encode() + _SEPARATOR
        return Answer(_HTTP_RESPONSE, itertools.chain([head], pieces))
    if not isinstance(first, (str, bytes, bytearray, memoryview)):
        return _joined(first, pieces)
    media_type = "text/plain; charset=utf-8" if isinstance(first, str) else _BYTES
    return Answer(media_type, itertools.chain([first], pieces))


def _joined(first: Any, pieces: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from pieces


class Answer:
    """A response in parts: text or bytes."""

    def __init__(self, media_type: str, parts: Iterable[Any]) -> None:
        self._media_type = media_type
        self._parts = (part.encode() if isinstance(part, str) else part for part in parts)

    def headwater_answer(self, server: Any, streams: bool) -> Any:
        """Sends the parts and returns None if the client streams; otherwise returns the joined
        parts."""
        if streams:
            server.begin_answer(self._media_type)
            for part in self._parts:
                server.send_bytes(part)
            return None
        body = b"".join(self._parts)
        return _http_response(body) if self._media_type == _HTTP_RESPONSE else _decoded(body)


def _decoded(body: bytes) -> Any:
    """Returns a result: parsed if it is JSON, otherwise as text; None if it is empty."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        message = "the response is neither JSON nor UTF-8 text"
        raise RuntimeFailed("Runtime.InvalidResponse", message) from None
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _http_response(body: bytes) -> dict[str, Any]:
    """Converts a streamed HTTP response to the form of a response that is not streamed."""
    prelude, _, content = body.partition(_SEPARATOR)
    response = _decoded(prelude)
    if not isinstance(response, dict):
        response = {"statusCode": 200}
    try:
        return {**response, "body": content.decode(), "isBase64Encoded": False}
    except UnicodeDecodeError:
        encoded = base64.b64encode(content).decode()
        return {**response, "body": encoded, "isBase64Encoded": True}
