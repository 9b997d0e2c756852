"""The environment that AWS Lambda gives a function: its variables, and the context of a call."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: Region and account in the ARNs of functions, for code that parses ARNs.
REGION = "us-east-1"
ACCOUNT = "000000000000"

#: The variable with a function's version. Only deployed functions have this variable.
VERSION = "AWS_LAMBDA_FUNCTION_VERSION"
LATEST = "$LATEST"


class Context:
    """The context of a call, with the attributes of Lambda's context object."""

    def __init__(self, call: dict[str, Any]) -> None:
        self.function_name = call["function"]
        self.function_version = os.environ.get(VERSION, LATEST)
        self.invoked_function_arn = arn(call)
        self.memory_limit_in_mb = str(megabytes(call))
        self.aws_request_id = call["id"]
        self.log_group_name = log_group(call)
        self.log_stream_name = LOG_STREAM
        self.identity = None
        self.client_context = client_context(call.get("client_context"))
        self.deadline_ms = call["deadline_ms"]

    def get_remaining_time_in_millis(self) -> int:
        """Returns the milliseconds until the call's time limit; 0 after the time limit."""
        return max(int(self.deadline_ms) - int(time.time() * 1000), 0)

    def __repr__(self) -> str:
        return f"Context(aws_request_id={self.aws_request_id!r})"


class _Fields:
    """Values that a client sent, as attributes; None for a value that the client did not send."""

    def __init__(self, names: Iterable[str], values: Any) -> None:
        values = values if isinstance(values, dict) else {}
        for name in names:
            setattr(self, name, values.get(name))


def client_context(sent: Any) -> Any:
    """Returns the client context that a client sent, as the object that Lambda passes; None if it
    sent nothing."""
    if not isinstance(sent, dict):
        return None
    context: Any = _Fields(["custom", "env", "client"], sent)
    names = ["installation_id", "app_title", "app_version_name", "app_version_code"]
    context.client = _Fields([*names, "app_package_name"], sent.get("client"))
    return context


LOG_STREAM = "headwater"


def log_group(call: dict[str, Any]) -> str:
    return f"/aws/lambda/{call['function']}"


def arn(call: dict[str, Any]) -> str:
    """Returns the ARN of a function."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{call['function']}"


def megabytes(call: dict[str, Any]) -> int:
    """Returns the memory limit of a call in MiB."""
    return int(call["memory_bytes"]) >> 20


def variables(call: dict[str, Any], folder: str, handler: str) -> dict[str, str]:
    """Returns the environment variables that Lambda sets for a function."""
    return {
        "_HANDLER": handler,
        "LAMBDA_TASK_ROOT": folder,
        "LAMBDA_RUNTIME_DIR": os.path.dirname(os.path.abspath(__file__)),
        "AWS_LAMBDA_FUNCTION_NAME": call["function"],
        VERSION: os.environ.get(VERSION, LATEST),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(megabytes(call)),
        "AWS_LAMBDA_LOG_GROUP_NAME": log_group(call),
        "AWS_LAMBDA_LOG_STREAM_NAME": LOG_STREAM,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": os.environ.get("AWS_REGION", REGION),
        "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION", REGION),
    }
