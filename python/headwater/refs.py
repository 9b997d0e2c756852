"""Branches, tags and commits: the methods of `Client` for refs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .choices import Comparison, ConflictChoice
from .connection import segments
from .project import read_project
from .requests import OnEvent, Requests, parameter_text, without_none


class Refs(Requests):
    """Methods of `Client` for branches, tags and commits."""

    def branches(self, *, prefix: str | None = None) -> list[dict[str, Any]]:
        """Lists the branches by name. With `prefix`, lists only branches whose names begin with
        it."""
        return self._list("/v1/branches", {"prefix": prefix})

    def branch(self, name: str) -> dict[str, Any]:
        """Returns a branch: its `commit` and its protection. Raises `RefNotFoundError`."""
        return self._dict("GET", segments("v1", "branches", name))

    def create_branch(
        self, name: str, *, from_ref: str | None = None, if_not_exists: bool = False
    ) -> dict[str, Any]:
        """Creates a branch at a ref without copying data. Raises `AlreadyExistsError`."""
        body = {"name": name, "from": self._at(from_ref), "if_not_exists": if_not_exists}
        return self._dict("POST", "/v1/branches", body)

    def checkout(
        self, branch: str, *, create: bool = False, from_ref: str | None = None
    ) -> dict[str, Any]:
        """Makes a branch the active branch of the lake or profile, also for the command and other
        programs. Returns the branch.

        With `create`, creates the branch first, at `from_ref`. A client with `url=` has no active
        branch and raises `InvalidArgumentError`.
        """
        if create:
            self.create_branch(branch, from_ref=from_ref)
        found = self.branch(branch)
        self._connection.set_active_branch(found["name"])
        return found

    def delete_branch(self, name: str, *, if_exists: bool = False) -> None:
        """Deletes a branch. Commits that other refs can reach remain."""
        path = segments("v1", "branches", name)
        self._connection.json("DELETE", path, parameters={"if_exists": if_exists or None})

    def merge(
        self,
        source: str,
        *,
        into: str | None = None,
        message: str | None = None,
        dry_run: bool = False,
        unchecked: bool = False,
        on_conflict: ConflictChoice | None = None,
        choices: Mapping[str, ConflictChoice] | None = None,
        rerun: str | os.PathLike[str] | None = None,
        parameters: Mapping[str, object] | None = None,
        on_event: OnEvent | None = None,
    ) -> dict[str, Any]:
        """Merges a ref into the branch `into`.

        `on_conflict` resolves conflicts: `fail`, `ours` (the branch `into`) or `theirs` (the
        source); `choices` sets this for single tables by name.

        Returns the report: `outcome` (`up_to_date`, `fast_forward`, `merged`), `commit`, `tables`.
        `dry_run` changes nothing. `unchecked` also merges the branch of a failed run. A conflict
        changes nothing and raises `MergeConflictError`, whose `context["report"]` has the tables
        and both changes.

        `rerun` is the folder of a project, whose models are then recomputed on the merged state,
        with `parameters`.
        One commit contains the merge and the tables of these models. The method then returns the
        run's report, which has the merge's report in `merge`; with `dry_run`, it returns the plan.
        `on_event` is called with each event.
        """
        body = {
            "source": source,
            "message": message,
            "dry_run": dry_run,
            "unchecked": unchecked,
            "on_conflict": on_conflict,
            "choices": dict(choices) if choices else None,
        }
        if rerun is not None:
            merge = without_none(body)
            files = read_project(rerun)
            run = {"files": files, "ref": self._at(into), "dry_run": dry_run, "merge": merge}
            if parameters:
                texts = {name: parameter_text(name, value) for name, value in parameters.items()}
                run["parameters"] = texts
            return self._work("/v1/runs", run, on_event)
        path = segments("v1", "branches", self._at(into), "merge")
        return self._dict("POST", path, without_none(body))

    def cherry_pick(
        self,
        commit: str,
        *,
        onto: str | None = None,
        message: str | None = None,
        dry_run: bool = False,
        unchecked: bool = False,
        on_conflict: ConflictChoice | None = None,
        choices: Mapping[str, ConflictChoice] | None = None,
    ) -> dict[str, Any]:
        """Applies the change of one commit, such as `dev` or `@3fa9c1d2`, to the branch `onto`.

        Conflicts are resolved as in `merge`. Returns the same report; raises `MergeConflictError`.
        """
        body = {
            "commit": commit,
            "message": message,
            "dry_run": dry_run,
            "unchecked": unchecked,
            "on_conflict": on_conflict,
            "choices": dict(choices) if choices else None,
        }
        path = segments("v1", "branches", self._at(onto), "cherry-pick")
        return self._dict("POST", path, without_none(body))

    def revert(
        self,
        commit: str | None = None,
        *,
        run: str | None = None,
        on: str | None = None,
        only: Iterable[str] = (),
        partial: bool = False,
        message: str | None = None,
        dry_run: bool = False,
        unchecked: bool = False,
        on_conflict: ConflictChoice | None = None,
        choices: Mapping[str, ConflictChoice] | None = None,
    ) -> dict[str, Any]:
        """Undoes a commit on the branch `on`, or everything that the run `run` wrote. Keeps later
        changes.

        `only` selects the tables; `partial` confirms that changes of the commit's other tables
        stay. Conflicts are resolved as in `merge`. Returns the same report; raises
        `MergeConflictError`.
        """
        body = {
            "commit": commit,
            "run": run,
            "tables": [only] if isinstance(only, str) else list(only),
            "partial": partial,
            "message": message,
            "dry_run": dry_run,
            "unchecked": unchecked,
            "on_conflict": on_conflict,
            "choices": dict(choices) if choices else None,
        }
        path = segments("v1", "branches", self._at(on), "revert")
        return self._dict("POST", path, without_none(body))

    def rename_branch(self, name: str, new_name: str) -> dict[str, Any]:
        """Renames a branch. Raises `AlreadyExistsError`."""
        return self._dict("PATCH", segments("v1", "branches", name), {"name": new_name})

    def protect_branch(self, name: str, *, require: str | None = None) -> dict[str, Any]:
        """Rejects direct writes to a branch. With `require`, the branch accepts only commits that
        passed the expectations of this project.
        """
        body = without_none({"protected": True, "requires": require})
        return self._dict("PATCH", segments("v1", "branches", name), body)

    def unprotect_branch(self, name: str) -> dict[str, Any]:
        """Allows direct writes to a branch again."""
        return self._dict("PATCH", segments("v1", "branches", name), {"protected": False})

    # Tags.

    def tags(self, *, prefix: str | None = None) -> list[dict[str, Any]]:
        """Lists the tags by name. With `prefix`, lists only tags whose names begin with it."""
        return self._list("/v1/tags", {"prefix": prefix})

    def tag(self, name: str) -> dict[str, Any]:
        """Returns a tag with its `commit`. Raises `RefNotFoundError`."""
        return self._dict("GET", segments("v1", "tags", name))

    def create_tag(
        self, name: str, *, from_ref: str | None = None, if_not_exists: bool = False
    ) -> dict[str, Any]:
        """Creates a tag at a ref. Raises `AlreadyExistsError`."""
        body = {"name": name, "from": self._at(from_ref), "if_not_exists": if_not_exists}
        return self._dict("POST", "/v1/tags", body)

    def rename_tag(self, name: str, new_name: str) -> dict[str, Any]:
        """Renames a tag. Raises `AlreadyExistsError`."""
        return self._dict("PATCH", segments("v1", "tags", name), {"name": new_name})

    def delete_tag(self, name: str, *, if_exists: bool = False) -> None:
        """Deletes a tag."""
        path = segments("v1", "tags", name)
        self._connection.json("DELETE", path, parameters={"if_exists": if_exists or None})

    # Refs.

    def resolve(self, ref: str | None = None) -> dict[str, Any]:
        """Returns the commit of a ref, such as `main~2`. Raises `RefNotFoundError`."""
        return self._dict("GET", segments("v1", "refs", self._at(ref)))

    def diff(
        self,
        from_ref: str,
        to_ref: str,
        *,
        rows: int = 5,
        compare: Comparison | None = None,
        stats: bool = False,
    ) -> dict[str, Any]:
        """Returns the differences between two refs: `tables` with columns, files, statistics and rows.

        `rows` is the number of rows per table, at most 100. `compare` determines whether rows are
        compared: `auto` (if little data must be read), `always` or `never`. With `stats`,
        statistics are exact; otherwise, they may be bounds.
        """
        path = segments("v1", "refs", from_ref, "diff", to_ref)
        parameters = {"rows": rows, "compare": compare, "stats": stats or None}
        return self._dict("GET", path, parameters=parameters)

    def diff_table(
        self,
        name: str,
        from_ref: str,
        to_ref: str | None = None,
        *,
        to_table: str | None = None,
        from_snapshot: int | None = None,
        to_snapshot: int | None = None,
        key: Sequence[str] = (),
        limit: int = 100,
        page_token: str | None = None,
        compare: Comparison | None = None,
        stats: bool = False,
    ) -> dict[str, Any]:
        """Returns the differences between two states of a table, with the rows in `rows`.

        `key` are the columns that identify rows, by default the table's identifier fields. If more
        rows differ than `limit`, pass `next_page_token` as `page_token` to get the next rows.
        Raises `TableNotFoundError`.
        """
        path = segments("v1", "refs", from_ref, "diff", self._at(to_ref), "tables", name)
        parameters = {
            "to_table": to_table,
            "from_snapshot": from_snapshot,
            "to_snapshot": to_snapshot,
            "key": ",".join(key) or None,
            "limit": limit,
            "page_token": page_token,
            "compare": compare,
            "stats": stats or None,
        }
        return self._dict("GET", path, parameters=parameters)

    def log(
        self, *, ref: str | None = None, limit: int = 20, after: str | None = None
    ) -> list[dict[str, Any]]:
        """Lists the commits of a ref, newest first. With `after`, lists only commits that follow
        this commit in the list."""
        path = segments("v1", "refs", self._at(ref), "commits")
        return self._list(path, {"limit": limit, "after": after})
