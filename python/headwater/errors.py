"""The errors of Headwater: one subclass of `HeadwaterError` per error code.

The codes are stable and the same in every interface. For example, the class of `table_not_found` is
`TableNotFoundError`. Two classes have the names of built-in errors, so use
`headwater.errors.FileNotFoundError` and `headwater.errors.InterruptedError`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

CODES = (
    "invalid_argument",
    "invalid_name",
    "invalid_sql",
    "unsupported_statement",
    "column_not_found",
    "invalid_project",
    "table_not_found",
    "namespace_not_found",
    "ref_not_found",
    "job_not_found",
    "environment_not_found",
    "function_not_found",
    "trigger_not_found",
    "event_not_found",
    "deployment_not_found",
    "secret_not_found",
    "bucket_not_found",
    "queue_not_found",
    "object_not_found",
    "file_not_found",
    "route_not_found",
    "transaction_failed",
    "already_exists",
    "precondition_failed",
    "commit_conflict",
    "merge_conflict",
    "not_empty",
    "branch_protected",
    "unauthenticated",
    "forbidden",
    "bad_row",
    "function_failed",
    "expectation_failed",
    "run_failed",
    "environment_failed",
    "memory_limit",
    "temp_limit",
    "time_limit",
    "event_expired",
    "loop_detected",
    "too_busy",
    "quota_exceeded",
    "disk_full",
    "cancelled",
    "interrupted",
    "unavailable",
    "isolation_unavailable",
    "storage",
    "corrupt",
    "internal",
)


class HeadwaterError(Exception):
    """An error of Headwater.

    `code` is the stable code, `message` a lower-case fragment, and `hint` a sentence with the
    remedy, or None. `context` has values for programs, such as `report` for merge conflicts and
    `job` for a failed job. `causes` are the messages of the causes, outermost first.
    """

    def __init__(
        self,
        code: str,
        message: str,
        hint: str | None = None,
        context: Mapping[str, Any] | None = None,
        causes: Iterable[str] = (),
    ) -> None:
        self.code = code
        self.message = message
        self.hint = hint
        self.context: dict[str, Any] = dict(context or {})
        self.causes = tuple(causes)
        # `copy` and `pickle` recreate the error from these arguments.
        super().__init__(code, message, hint, self.context, self.causes)

    def __str__(self) -> str:
        lines = [self.message, *(f"caused by: {cause}" for cause in self.causes)]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


def class_name(code: str) -> str:
    """Returns the class name of a code: `TableNotFoundError` for `table_not_found`."""
    return "".join(word.capitalize() for word in code.split("_")) + "Error"


def make(
    code: str,
    message: str,
    hint: str | None = None,
    context: Mapping[str, Any] | None = None,
    causes: Iterable[str] = (),
) -> HeadwaterError:
    """Creates an error of the code's class. For an unknown code, creates a plain
    `HeadwaterError`."""
    return BY_CODE.get(code, HeadwaterError)(code, message, hint, context, causes)


def from_problem(problem: Mapping[str, Any]) -> HeadwaterError:
    """Creates an error from a JSON `Problem`, which has a code, message, causes, hint and
    context."""
    return make(
        str(problem.get("code", "internal")),
        str(problem.get("message", "an error without a message")),
        problem.get("hint"),
        problem.get("context"),
        problem.get("causes", ()),
    )


def _make_class(code: str) -> type[HeadwaterError]:
    fields = {"__doc__": f"The error code `{code}`.", "__module__": __name__}
    return type(class_name(code), (HeadwaterError,), fields)


# The classes by code, in the order of the codes.
BY_CODE: dict[str, type[HeadwaterError]] = {code: _make_class(code) for code in CODES}
globals().update({made.__name__: made for made in BY_CODE.values()})

# The same classes for type checkers and editors.
if TYPE_CHECKING:

    class InvalidArgumentError(HeadwaterError): ...

    class InvalidNameError(HeadwaterError): ...

    class InvalidSqlError(HeadwaterError): ...

    class UnsupportedStatementError(HeadwaterError): ...

    class ColumnNotFoundError(HeadwaterError): ...

    class InvalidProjectError(HeadwaterError): ...

    class TableNotFoundError(HeadwaterError): ...

    class NamespaceNotFoundError(HeadwaterError): ...

    class RefNotFoundError(HeadwaterError): ...

    class JobNotFoundError(HeadwaterError): ...

    class EnvironmentNotFoundError(HeadwaterError): ...

    class FunctionNotFoundError(HeadwaterError): ...

    class TriggerNotFoundError(HeadwaterError): ...

    class EventNotFoundError(HeadwaterError): ...

    class DeploymentNotFoundError(HeadwaterError): ...

    class SecretNotFoundError(HeadwaterError): ...

    class BucketNotFoundError(HeadwaterError): ...

    class QueueNotFoundError(HeadwaterError): ...

    class ObjectNotFoundError(HeadwaterError): ...

    class FileNotFoundError(HeadwaterError): ...

    class RouteNotFoundError(HeadwaterError): ...

    class TransactionFailedError(HeadwaterError): ...

    class AlreadyExistsError(HeadwaterError): ...

    class PreconditionFailedError(HeadwaterError): ...

    class CommitConflictError(HeadwaterError): ...

    class MergeConflictError(HeadwaterError): ...

    class NotEmptyError(HeadwaterError): ...

    class BranchProtectedError(HeadwaterError): ...

    class UnauthenticatedError(HeadwaterError): ...

    class ForbiddenError(HeadwaterError): ...

    class BadRowError(HeadwaterError): ...

    class FunctionFailedError(HeadwaterError): ...

    class ExpectationFailedError(HeadwaterError): ...

    class RunFailedError(HeadwaterError): ...

    class EnvironmentFailedError(HeadwaterError): ...

    class MemoryLimitError(HeadwaterError): ...

    class TempLimitError(HeadwaterError): ...

    class TimeLimitError(HeadwaterError): ...

    class EventExpiredError(HeadwaterError): ...

    class LoopDetectedError(HeadwaterError): ...

    class TooBusyError(HeadwaterError): ...

    class QuotaExceededError(HeadwaterError): ...

    class DiskFullError(HeadwaterError): ...

    class CancelledError(HeadwaterError): ...

    class InterruptedError(HeadwaterError): ...

    class UnavailableError(HeadwaterError): ...

    class IsolationUnavailableError(HeadwaterError): ...

    class StorageError(HeadwaterError): ...

    class CorruptError(HeadwaterError): ...

    class InternalError(HeadwaterError): ...

__all__ = ["BY_CODE", "CODES", "HeadwaterError"]
__all__ += [made.__name__ for made in BY_CODE.values()]
