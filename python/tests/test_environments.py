"""Tests of the client's requests about namespaces and environments."""

import unittest

from stand_in import Answer, WithServer


class Environments(WithServer):
    def test_namespaces_and_environments_are_changed(self):
        client = self.client
        self.check(
            lambda: client.create_namespace("raw", ref="dev"),
            "POST",
            "/v1/branches/dev/namespaces",
            body={"name": "raw"},
        )
        self.server.on("DELETE", "/v1/branches/main/namespaces/raw.eu", Answer(b"", 204))
        self.assertIsNone(client.drop_namespace("raw.eu", if_exists=True))
        self.assertEqual(self.server.last().parameters, {"if_exists": "true"})
        self.check(
            lambda: client.prune_environments(days=2, dry_run=True),
            "POST",
            "/v1/environments/prune",
            body={"unused_seconds": 172_800, "dry_run": True},
        )
        path = "/v1/environments/3f/rebuild"
        self.check(lambda: client.rebuild_environment("3f"), "POST", path, body={})


if __name__ == "__main__":
    unittest.main()
