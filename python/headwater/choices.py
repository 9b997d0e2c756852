"""The values of options that accept only certain texts, as types."""

from __future__ import annotations

from typing import Literal

#: A resolution of conflicts: reject the merge, keep the target's table, or take the source's table.
ConflictChoice = Literal["fail", "ours", "theirs"]

#: The condition for comparing rows: `auto` (if little data must be read), `always` or `never`.
Comparison = Literal["auto", "always", "never"]

#: The effect of a write on the existing rows of a table.
WriteMode = Literal["append", "replace"]

#: The effect of a bad row on an import: stop with an error, or store the row in another table.
OnError = Literal["stop", "reject"]

#: The format of imported files.
FileFormat = Literal["csv", "ndjson", "parquet", "arrow"]

#: The priority of a run's functions in the queue.
Priority = Literal["low", "normal", "high"]

#: A setting of a function that a deployment can reset to its default.
FunctionSetting = Literal[
    "handler",
    "description",
    "memory",
    "timeout",
    "env",
    "secrets",
    "network",
    "system",
    "layers",
    "reserved_concurrency",
]

#: A property by which usage is grouped.
UsageGrouping = Literal[
    "day", "kind", "job", "model", "function", "trigger", "branch", "author"
]
