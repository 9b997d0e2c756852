"""Tests of the client's requests about users and rights."""

import unittest
from datetime import datetime, timezone

from stand_in import Answer, serve_tcp

import headwater
from headwater import errors


class Access(unittest.TestCase):
    def setUp(self):
        serving = serve_tcp()
        self.server, url = serving.__enter__()
        self.addCleanup(serving.__exit__, None, None, None)
        self.client = headwater.Client(url=url, author="mo")

    def check(self, call, method, path, parameters=None, body=None):
        """Checks that a call sends this request, and returns the server's response."""
        answer = {"name": "x"}
        self.server.on(method, path, Answer(answer))
        self.assertEqual(call(), answer)
        seen = self.server.last()
        self.assertEqual((seen.parameters, seen.body), (parameters or {}, body))

    def check_empty(self, call, method, path, parameters=None):
        """Checks that a call sends this request without a body, and returns None."""
        self.server.on(method, path, Answer(b"", 204))
        self.assertIsNone(call())
        seen = self.server.last()
        self.assertEqual((seen.parameters, seen.body), (parameters or {}, None))

    def test_users_are_created_changed_and_dropped(self):
        client, check = self.client, self.check
        check(client.whoami, "GET", "/v1/whoami")
        check(client.users, "GET", "/v1/users")
        check(lambda: client.user("ana@x"), "GET", "/v1/users/ana%40x")
        person = {"name": "ana", "kind": "person", "password": "long enough"}
        check(
            lambda: client.create_user("ana", password="long enough"),
            "POST",
            "/v1/users",
            body=person,
        )
        service = {"name": "loader", "kind": "service"}
        check(
            lambda: client.create_user("loader", service=True), "POST", "/v1/users", body=service
        )
        check(
            lambda: client.update_user("ana", disabled=False),
            "PATCH",
            "/v1/users/ana",
            body={"disabled": False},
        )
        self.check_empty(lambda: client.drop_user("ana"), "DELETE", "/v1/users/ana")

    def test_a_missing_object_is_accepted_with_if_exists(self):
        client = self.client
        missing = Answer({"code": "invalid_argument", "message": "`ana` does not exist"}, 400)
        for kind, remove in [
            ("users", client.drop_user),
            ("roles", client.drop_role),
            ("restrictions", client.drop_restriction),
            ("limits", client.remove_limit),
        ]:
            self.server.on("DELETE", f"/v1/{kind}/ana", missing)
            self.server.on("GET", f"/v1/{kind}", Answer([{"name": "ben"}]))
            remove("ana", if_exists=True)
            with self.assertRaises(errors.InvalidArgumentError):
                remove("ana")
            # Another error of an object that exists.
            self.server.on("GET", f"/v1/{kind}", Answer([{"name": "ana"}]))
            with self.assertRaises(errors.InvalidArgumentError):
                remove("ana", if_exists=True)

    def test_credentials_have_scopes_and_an_expiry(self):
        client, check = self.client, self.check
        check(lambda: client.tokens(user="ana"), "GET", "/v1/tokens", {"user": "ana"})
        permission = {"actions": ["select", "insert"], "object": "table:sales.*"}
        check(
            lambda: client.create_token(
                "ana",
                label="loader",
                scopes="select, insert on table:sales.*",
                expires=datetime(2027, 1, 31, tzinfo=timezone.utc),
            ),
            "POST",
            "/v1/tokens",
            body={
                "user": "ana",
                "label": "loader",
                "scopes": [permission],
                "expires": "2027-01-31T00:00:00+00:00",
            },
        )
        check(client.create_token, "POST", "/v1/tokens", body={"label": ""})
        self.check_empty(lambda: client.revoke_token("3fa9"), "DELETE", "/v1/tokens/3fa9")
        check(client.access_keys, "GET", "/v1/access-keys")
        check(
            lambda: client.create_access_key(scopes=[]),
            "POST",
            "/v1/access-keys",
            body={"label": "", "scopes": []},
        )
        self.check_empty(
            lambda: client.revoke_access_key("HWAK1"), "DELETE", "/v1/access-keys/HWAK1"
        )
        before = datetime.now(timezone.utc)
        self.server.on("POST", "/v1/tokens", Answer({}))
        client.create_token("ana", expires="90d")
        expires = datetime.fromisoformat(self.server.last().body["expires"])
        self.assertEqual((expires - before).days, 90)
        with self.assertRaises(errors.InvalidArgumentError):
            client.create_token("ana", scopes="select")
        with self.assertRaises(errors.InvalidArgumentError):
            client.create_token("ana", expires=datetime(2027, 1, 31))

    def test_rights_are_granted_and_revoked(self):
        client, check = self.client, self.check
        check(client.roles, "GET", "/v1/roles")
        check(lambda: client.create_role("r"), "POST", "/v1/roles", body={"name": "r"})
        self.check_empty(lambda: client.drop_role("r"), "DELETE", "/v1/roles/r")
        member = "/v1/roles/r/members/ana"
        self.check_empty(lambda: client.grant_role("r", "ana"), "PUT", member)
        self.check_empty(lambda: client.revoke_role("r", "ana"), "DELETE", member)
        check(lambda: client.grants("r"), "GET", "/v1/grants", {"grantee": "r"})
        grant = {"grantee": "r", "actions": ["select"], "object": "table:a.*"}
        check(
            lambda: client.grant("select", on="table:a.*", to="r"), "POST", "/v1/grants", body=grant
        )
        self.check_empty(
            lambda: client.revoke(["select", "insert"], on="table:a.*", revoke_from="r"),
            "DELETE",
            "/v1/grants",
            {"grantee": "r", "actions": "select,insert", "object": "table:a.*"},
        )
        question = {"user": "ana", "action": "select", "object": "table:a.t"}
        check(
            lambda: client.explain_access("ana", "select", "table:a.t"),
            "GET",
            "/v1/access/explain",
            question,
        )

    def test_restrictions_and_limits_are_set_and_removed(self):
        client, check = self.client, self.check
        check(client.restrictions, "GET", "/v1/restrictions")
        mask = {"name": "pay", "table": "hr.staff", "column": "salary", "using": "NULL"}
        check(
            lambda: client.create_restriction(
                "pay", on="hr.staff", column="salary", using="NULL", to="analyst"
            ),
            "POST",
            "/v1/restrictions",
            body={**mask, "to": ["analyst"], "replace": False},
        )
        self.check_empty(
            lambda: client.drop_restriction("pay"), "DELETE", "/v1/restrictions/pay"
        )
        check(client.limits, "GET", "/v1/limits")
        check(lambda: client.limit("ana"), "GET", "/v1/limits/ana")
        check(
            lambda: client.set_limit("ana", jobs=2, memory="2GiB", money_per_day=1.5),
            "PUT",
            "/v1/limits/ana",
            body={"jobs": 2, "memory_bytes": 2 << 30, "money_per_day": 1.5},
        )
        self.check_empty(lambda: client.remove_limit("ana"), "DELETE", "/v1/limits/ana")
        with self.assertRaises(errors.InvalidArgumentError):
            client.set_limit("ana", memory="much")

    def test_secrets_and_the_audit_log(self):
        client, check = self.client, self.check
        check(client.secrets, "GET", "/v1/secrets")
        check(
            lambda: client.set_secret("KEY", "v"), "PUT", "/v1/secrets/KEY", body={"value": "v"}
        )
        self.check_empty(
            lambda: client.delete_secret("KEY", if_exists=True),
            "DELETE",
            "/v1/secrets/KEY",
            {"if_exists": "true"},
        )
        check(
            lambda: client.audit(
                since=datetime(2026, 11, 1, tzinfo=timezone.utc), user="ana", outcome="denied"
            ),
            "GET",
            "/v1/audit",
            {"since": "2026-11-01T00:00:00+00:00", "user": "ana", "outcome": "denied"},
        )
        before = datetime.now(timezone.utc)
        self.server.on("GET", "/v1/audit", Answer([]))
        client.audit(since="24h", until="2026-11-30")
        sent = self.server.last().parameters
        self.assertEqual((before - datetime.fromisoformat(sent["since"])).days, 0)
        self.assertEqual(sent["until"], "2026-11-30")
        check(client.audit_retention, "GET", "/v1/audit/retention")
        check(
            lambda: client.set_audit_retention("90d"),
            "PUT",
            "/v1/audit/retention",
            body={"keep_seconds": 90 * 86_400},
        )
        with self.assertRaises(errors.InvalidArgumentError):
            client.set_audit_retention("long")

    def test_an_exceeded_quota_has_its_class(self):
        problem = {"code": "quota_exceeded", "message": "user `ana` has 1 jobs"}
        self.server.on("GET", "/v1/whoami", Answer(problem, 429))
        with self.assertRaises(errors.QuotaExceededError):
            self.client.whoami()


if __name__ == "__main__":
    unittest.main()
