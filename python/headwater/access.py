"""Users and rights: the methods of `Client` for users, tokens, keys, roles, grants, restrictions,
limits, secrets and the audit log."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from .connection import segments
from .errors import InvalidArgumentError, make
from .requests import Requests, duration_seconds, size_bytes, time_text, without_none


class Access(Requests):
    """Methods of `Client` for users and their rights.

    Most methods need `administer` on the lake. A user may read its own account, tokens, grants and
    limits. Methods that grant or set something return the result as a dict.
    """

    # Users.

    def whoami(self) -> dict[str, Any]:
        """Returns the identity of this client: `name`, `method`, `roles`, `permissions`, `limits`."""
        return self._dict("GET", "/v1/whoami")

    def users(self) -> list[dict[str, Any]]:
        """Lists the users by name."""
        return self._list("/v1/users")

    def user(self, name: str) -> dict[str, Any]:
        """Returns a user."""
        return self._dict("GET", segments("v1", "users", name))

    def create_user(
        self, name: str, *, password: str | None = None, service: bool = False
    ) -> dict[str, Any]:
        """Creates a user without rights. A service account has tokens and no password."""
        kind = "service" if service else "person"
        body = without_none({"name": name, "kind": kind, "password": password})
        return self._dict("POST", "/v1/users", body)

    def update_user(
        self, name: str, *, password: str | None = None, disabled: bool | None = None
    ) -> dict[str, Any]:
        """Sets the password of a user, or disables or enables its credentials."""
        body = without_none({"password": password, "disabled": disabled})
        return self._dict("PATCH", segments("v1", "users", name), body)

    def drop_user(self, name: str, *, if_exists: bool = False) -> None:
        """Drops a user with its tokens, keys, grants, limits and ownership."""
        self._remove("users", name, if_exists)

    def _remove(self, kind: str, name: str, if_exists: bool) -> None:
        """Removes a user, role, restriction or limits. `kind` is the name of their list in the API.
        With `if_exists`, succeeds if there is nothing to remove."""
        try:
            self._connection.json("DELETE", segments("v1", kind, name))
        except InvalidArgumentError:
            # The error for a missing name has the code of other errors, so search the list.
            if not if_exists or any(one["name"] == name for one in self._list(f"/v1/{kind}")):
                raise

    # Credentials.

    def tokens(self, *, user: str | None = None) -> list[dict[str, Any]]:
        """Lists the access tokens of a user, or all tokens that the client may see, without
        secrets."""
        return self._list("/v1/tokens", {"user": user})

    def create_token(
        self,
        user: str | None = None,
        *,
        label: str = "",
        scopes: str | Iterable[str] | None = None,
        expires: str | datetime | None = None,
    ) -> dict[str, Any]:
        """Creates an access token. Returns `token` and its `secret`; no other method returns the
        secret.

        `user` is by default the user of this client. `scopes` are permissions such as
        `"select on table:sales.*"`; without them the token has all rights of the user. `expires` is
        a time with its zone, as a `datetime` or in RFC 3339, or a duration such as `90d`.
        """
        return self._dict("POST", "/v1/tokens", _credential(user, label, scopes, expires))

    def revoke_token(self, id: str) -> None:
        """Revokes an access token."""
        self._connection.json("DELETE", segments("v1", "tokens", id))

    def access_keys(self, *, user: str | None = None) -> list[dict[str, Any]]:
        """Lists the access keys of S3 clients, without secrets."""
        return self._list("/v1/access-keys", {"user": user})

    def create_access_key(
        self,
        user: str | None = None,
        *,
        label: str = "",
        scopes: str | Iterable[str] | None = None,
        expires: str | datetime | None = None,
    ) -> dict[str, Any]:
        """Creates an access key. Returns `key` and its `secret`; no other method returns the
        secret."""
        return self._dict("POST", "/v1/access-keys", _credential(user, label, scopes, expires))

    def revoke_access_key(self, id: str) -> None:
        """Revokes an access key."""
        self._connection.json("DELETE", segments("v1", "access-keys", id))

    # Roles and grants.

    def roles(self) -> list[dict[str, Any]]:
        """Lists the roles by name."""
        return self._list("/v1/roles")

    def create_role(self, name: str) -> dict[str, Any]:
        """Creates a role without rights."""
        return self._dict("POST", "/v1/roles", {"name": name})

    def drop_role(self, name: str, *, if_exists: bool = False) -> None:
        """Drops a role with its grants and limits, and revokes it from all users and roles."""
        self._remove("roles", name, if_exists)

    def grant_role(self, role: str, member: str) -> None:
        """Grants a role to a user or another role."""
        self._connection.json("PUT", segments("v1", "roles", role, "members", member))

    def revoke_role(self, role: str, member: str) -> None:
        """Revokes a role from a user or another role."""
        self._connection.json("DELETE", segments("v1", "roles", role, "members", member))

    def grants(self, grantee: str | None = None) -> list[dict[str, Any]]:
        """Lists the grants of a user or role, or all grants."""
        return self._list("/v1/grants", {"grantee": grantee})

    def grant(self, actions: str | Iterable[str], *, on: str, to: str) -> dict[str, Any]:
        """Grants actions on objects to a user or role.

        For example: `client.grant("select", on="table:sales.*", to="analyst")`.
        """
        body = {"grantee": to, "actions": _words(actions), "object": on}
        return self._dict("POST", "/v1/grants", body)

    def revoke(self, actions: str | Iterable[str], *, on: str, revoke_from: str) -> None:
        """Revokes actions from a user or role. Changes only the grant on exactly this object or
        pattern."""
        parameters = {"grantee": revoke_from, "actions": ",".join(_words(actions)), "object": on}
        self._connection.json("DELETE", "/v1/grants", parameters=parameters)

    def explain_access(self, user: str, action: str, object: str) -> dict[str, Any]:
        """Returns whether a user may perform an action on an object, and which grant or rule
        decides."""
        question = {"user": user, "action": action, "object": object}
        return self._dict("GET", "/v1/access/explain", parameters=question)

    # Restrictions and limits.

    def restrictions(self) -> list[dict[str, Any]]:
        """Lists the row filters and column masks by name."""
        return self._list("/v1/restrictions")

    def create_restriction(
        self,
        name: str,
        *,
        on: str,
        using: str,
        column: str | None = None,
        to: str | Iterable[str] = (),
        replace: bool = False,
        ref: str | None = None,
    ) -> dict[str, Any]:
        """Creates a row filter of the table `on`, or a column mask if `column` is given.

        `using` is SQL: for a row filter the condition of visible rows, for a column mask the value
        that is shown instead of the column's value. `to` are the restricted users and roles, by
        default all users except administrators.
        """
        body = {
            "name": name,
            "table": on,
            "column": column,
            "using": using,
            "to": _words(to),
            "replace": replace,
            "ref": ref,
        }
        return self._dict("POST", "/v1/restrictions", without_none(body))

    def drop_restriction(self, name: str, *, if_exists: bool = False) -> None:
        """Drops a row filter or column mask."""
        self._remove("restrictions", name, if_exists)

    def limits(self) -> list[dict[str, Any]]:
        """Lists the limits of users and roles by name. A user sees its own limits and the limits of
        its roles."""
        return self._list("/v1/limits")

    def limit(self, name: str) -> dict[str, Any]:
        """Returns the limits that were set for a user or role."""
        return self._dict("GET", segments("v1", "limits", name))

    def set_limit(
        self,
        name: str,
        *,
        jobs: int | None = None,
        memory: str | int | None = None,
        bytes_per_day: str | int | None = None,
        money_per_day: float | None = None,
    ) -> dict[str, Any]:
        """Sets the limits of a user or role. These limits replace all earlier limits.

        `jobs` is the maximum number of concurrent jobs, and `memory` is the maximum memory of one
        statement or call. Sizes are bytes, or text such as `2GiB`. Days are in UTC, and money is in
        the rate card's currency.
        """
        limits = {
            "jobs": jobs,
            "memory_bytes": size_bytes("memory", memory),
            "bytes_per_day": size_bytes("bytes_per_day", bytes_per_day),
            "money_per_day": money_per_day,
        }
        return self._dict("PUT", segments("v1", "limits", name), without_none(limits))

    def remove_limit(self, name: str, *, if_exists: bool = False) -> None:
        """Removes the limits of a user or role."""
        self._remove("limits", name, if_exists)

    # Secrets.

    def secrets(self) -> list[dict[str, Any]]:
        """Lists the secrets that the client may use, without their values."""
        return self._list("/v1/secrets")

    def set_secret(self, name: str, value: str) -> dict[str, Any]:
        """Sets a secret of functions. No method returns the value of a secret."""
        return self._dict("PUT", segments("v1", "secrets", name), {"value": value})

    def delete_secret(self, name: str, *, if_exists: bool = False) -> None:
        """Deletes a secret with all its versions."""
        path = segments("v1", "secrets", name)
        self._connection.json("DELETE", path, parameters={"if_exists": if_exists or None})

    # The audit log.

    def audit(
        self,
        *,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        user: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
    ) -> list[dict[str, Any]]:
        """Lists the events of the audit log, the oldest first.

        `since` and `until` are times with their zones, as `datetime` or in RFC 3339, or dates. A
        duration such as `24h` is the time before now. `outcome` is `allowed` or `denied`.
        """
        filters = {
            "since": time_text(since, -1),
            "until": time_text(until, -1),
            "user": user,
            "action": action,
            "outcome": outcome,
        }
        return self._list("/v1/audit", filters)

    def audit_retention(self) -> dict[str, Any]:
        """Returns the time for which events of the audit log are kept, as `keep_seconds`."""
        return self._dict("GET", "/v1/audit/retention")

    def set_audit_retention(self, keep: str | int) -> dict[str, Any]:
        """Sets the time for which events of the audit log are kept, as seconds or text such as
        `90d`. The minimum is one day."""
        seconds = duration_seconds("keep", keep) or 0
        return self._dict("PUT", "/v1/audit/retention", {"keep_seconds": int(seconds)})


def _credential(
    user: str | None,
    label: str,
    scopes: str | Iterable[str] | None,
    expires: str | datetime | None,
) -> dict[str, Any]:
    """Returns the request body that creates a token or access key."""
    permissions = None
    if scopes is not None:
        listed = [scopes] if isinstance(scopes, str) else list(scopes)
        permissions = [_permission(scope) for scope in listed]
    body = {"user": user, "label": label, "scopes": permissions, "expires": time_text(expires, 1)}
    return without_none(body)


def _permission(text: str) -> dict[str, Any]:
    """Parses a permission, such as `select, insert on table:sales.*`."""
    actions, separator, found = text.partition(" on ")
    if not separator:
        hint = "Write a permission such as `select on table:sales.*`."
        raise make("invalid_argument", f"`{text}` is not a permission", hint)
    return {"actions": _words(actions), "object": found.strip()}


def _words(value: str | Iterable[str]) -> list[str]:
    """Returns words as a list. A text is split at its commas."""
    words = value.split(",") if isinstance(value, str) else list(value)
    return [word.strip() for word in words]
