"""Answers of a Lambda runtime: results, errors, and results with an error in their trailers."""

import base64
import json

#: Media type of a streamed HTTP response: JSON with status and headers, 8 zero bytes, the body.
_HTTP_RESPONSE = "application/vnd.awslambda.http-integration-response"
_SEPARATOR = bytes(8)

_ERROR_TYPE = "lambda-runtime-function-error-type"
_ERROR_BODY = "lambda-runtime-function-error-body"

#: Maximum lines of a stack trace in an error.
_LINES_MAX = 50


class RuntimeFailed(Exception):
    """An error that a runtime reported, or the end of a runtime."""

    def __init__(self, kind, message):
        super().__init__(message)
        #: The exception's name for users.
        self.headwater_name = kind


def read_response(request):
    """Reads a result. Returns a function that returns it, or raises the error in the trailers."""
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


def read_error(request):
    """Reads an error. Returns a function that raises it."""
    return _error(request.headers.get(_ERROR_TYPE, ""), request.body)


def _error(kind, body):
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

    def answer():
        raise RuntimeFailed(str(name), message)

    return answer


def _decoded(body):
    """Returns a result: parsed if it is JSON, otherwise as text; None if it is empty."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        message = "the answer is neither JSON nor other UTF-8 text"
        raise RuntimeFailed("Runtime.InvalidResponse", message) from None
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _http_response(body):
    """Returns a streamed HTTP response in the form of one that is not streamed."""
    prelude, _, content = body.partition(_SEPARATOR)
    response = _decoded(prelude)
    if not isinstance(response, dict):
        response = {"statusCode": 200}
    try:
        return {**response, "body": content.decode(), "isBase64Encoded": False}
    except UnicodeDecodeError:
        encoded = base64.b64encode(content).decode()
        return {**response, "body": encoded, "isBase64Encoded": True}
