"""The errors of Headwater: one class per error code, all of them `HeadwaterError`.

The codes are those of every interface of Headwater, and stable; `table_not_found` is raised as
`TableNotFoundError`. Two classes have the names of Python's own, `FileNotFoundError` and
`InterruptedError`, so use them as `headwater.errors.FileNotFoundError`.
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
    "deployment_not_found",
    "file_not_found",
    "route_not_found",
    "already_exists",
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
    "too_busy",
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
    """An error of Headwater's.

    `code` is the stable code, `message` a lower-case fragment, `hint` one sentence that says what to do
    or None, `context` values for programs (`report` for the conflicts of a merge, `job` where a job
    failed), and `causes` what lies beneath, outermost first.
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
        # All arguments, so that a copy or a pickle is the same error.
        super().__init__(code, message, hint, self.context, self.causes)

    def __str__(self) -> str:
        lines = [self.message, *(f"caused by: {cause}" for cause in self.causes)]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


def class_name(code: str) -> str:
    """The name of a code's class: `TableNotFoundError` for `table_not_found`."""
    return "".join(word.capitalize() for word in code.split("_")) + "Error"


def make(
    code: str,
    message: str,
    hint: str | None = None,
    context: Mapping[str, Any] | None = None,
    causes: Iterable[str] = (),
) -> HeadwaterError:
    """An error of the class of its code; a code of a later version makes a plain `HeadwaterError`."""
    return BY_CODE.get(code, HeadwaterError)(code, message, hint, context, causes)


def from_problem(problem: Mapping[str, Any]) -> HeadwaterError:
    """The error that the JSON of a `Problem` describes: code, message, causes, hint, context."""
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


# Every class by its code, in the order of the codes.
BY_CODE: dict[str, type[HeadwaterError]] = {code: _make_class(code) for code in CODES}
globals().update({made.__name__: made for made in BY_CODE.values()})

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[HeadwaterError]: ...


__all__ = ["BY_CODE", "CODES", "HeadwaterError"]
__all__ += [made.__name__ for made in BY_CODE.values()]
