"""Tests of the client's requests about functions and deployments."""

import io
import json
import os
import threading
import unittest
import zipfile
from unittest import mock

from stand_in import Answer, WithServer

from headwater import errors, functions
from headwater.connection import ARROW


class Functions(WithServer):
    PATH = "/v1/functions/greet/invoke"

    def test_a_function_is_called_with_values_by_name(self):
        self.server.on("POST", self.PATH, Answer({"hello": "you"}))
        self.assertEqual(self.client.invoke("greet", name="you", self=[1]), {"hello": "you"})
        seen = self.server.last()
        self.assertEqual(seen.body, {"arguments": {"name": "you", "self": [1]}})
        self.assertEqual(seen.headers["accept"], "application/json")
        self.server.on("GET", "/v1/functions", Answer([{"name": "greet"}]))
        self.assertEqual(self.client.functions(), [{"name": "greet"}])

    def test_the_logs_of_a_function_include_all_versions(self):
        summaries = ["price:live", "prices", "price:2", "other", "table://log.calls", "price"]
        calls = [
            {"id": str(number), "summary": summary, "author": "ana"}
            for number, summary in enumerate(summaries)
        ]
        calls.append({"id": "6", "summary": "table://log.calls", "author": "trigger nightly"})
        self.server.on("GET", "/v1/jobs", Answer(calls))
        triggers = [{"name": "nightly", "function": "price:live"}, {"name": "import"}]
        self.server.on("GET", "/v1/triggers", Answer(triggers))
        for call in calls:
            self.server.on("GET", f"/v1/jobs/{call['id']}", Answer(call))
            self.server.on("GET", f"/v1/jobs/{call['id']}/events", Answer(b""))
        for name, expected in (
            ("price", ["6", "5", "2", "0"]),
            ("price:live", ["6", "0"]),
            ("price:2", ["2"]),
            ("other", ["3"]),
        ):
            logs = list(self.client.function_logs(name))
            self.assertEqual([one["job"]["id"] for one in logs], expected, name)
        with self.assertRaises(errors.JobNotFoundError):
            list(self.client.function_logs("table"))

    def test_lines_of_calls_are_yielded_before_the_calls_end(self):
        ends = {id: threading.Event() for id in ("a", "b")}
        never = threading.Event()
        self.addCleanup(never.set)

        def job(id, status):
            created = f"2026-03-01T00:00:0{'ab'.index(id)}Z"
            call = {"id": id, "summary": "price", "author": "ana", "created": created}
            return {**call, "status": status}

        def events(id):
            for sequence, fields in enumerate(({"type": "log", "text": id}, {"type": "ended"}), 1):
                if fields["type"] == "ended":
                    ends[id].wait()
                yield json.dumps({"sequence": sequence, **fields}).encode() + b"\n"

        def no_call():
            never.wait()
            yield b"[]"

        first, second = (job(id, "running") for id in ends)
        lists = [[first], [second], [second, first]]
        waits = Answer(chunks=no_call())
        self.server.on("GET", "/v1/jobs", *[Answer(calls) for calls in lists], waits)
        self.server.on("GET", "/v1/triggers", Answer([]))
        for id in ends:
            self.server.on("GET", f"/v1/jobs/{id}", Answer(job(id, "succeeded")))
            self.server.on("GET", f"/v1/jobs/{id}/events", Answer(chunks=events(id)))
        logs = self.client.function_logs("price", follow=True)
        printed = [next(logs), next(logs)]
        self.assertEqual(sorted(one["job"]["id"] for one in printed), ["a", "b"])
        for one in printed:
            self.assertEqual(one["job"]["status"], "running")
            self.assertEqual([event["text"] for event in one["events"]], [one["job"]["id"]])
        # The call that ends first is reported first, although the other call has started before.
        for id in ("b", "a"):
            ends[id].set()
            last = next(logs)
            self.assertEqual((last["job"]["id"], last["job"]["status"]), (id, "succeeded"))
            self.assertEqual([event["type"] for event in last["events"]], ["ended"])
        logs.close()

    def test_new_calls_are_listed_from_the_time_of_the_newest_known_call(self):
        for time, after, before in (
            ("2026-03-01T00:00:09Z", "2026-03-01T00:00:09.000000001Z", "2026-03-01T00:00:04Z"),
            ("2026-03-01T00:00:03.25Z", "2026-03-01T00:00:03.250000001Z", "2026-02-28T23:59:58Z"),
            ("2026-03-01T00:00:59.999999999Z", "2026-03-01T00:01:00Z", "2026-03-01T00:00:54Z"),
        ):
            self.assertEqual(functions._after(time), after)
            self.assertEqual(functions._before(time), before)

    def test_a_folder_is_deployed_and_an_earlier_version_activated(self):
        root = self.folder()
        (root / "headwater.toml").write_text("[project]\n")
        self.server.on("POST", "/v1/deployments", Answer({"dry_run": True}))
        self.assertEqual(self.client.deploy(root, dry_run=True), {"dry_run": True})
        sent = {"files": {"headwater.toml": "[project]\n"}, "dry_run": True}
        self.assertEqual(self.server.last().body, sent)
        self.server.on("GET", "/v1/deployments", Answer([{"version": "3fa9"}]))
        self.assertEqual(self.client.deployments(), [{"version": "3fa9"}])
        self.server.on("POST", "/v1/deployments/3fa9/activate", Answer({"dry_run": False}))
        self.assertEqual(self.client.rollback("3fa9"), {"dry_run": False})

    def test_the_version_before_the_active_one_is_activated(self):
        versions = [
            {"version": "c", "active": False},
            {"version": "b", "active": True},
            {"version": "a", "active": False},
        ]
        self.server.on("GET", "/v1/deployments", Answer(versions))
        self.server.on("POST", "/v1/deployments/a/activate", Answer({"dry_run": False}))
        self.assertEqual(self.client.deployment()["version"], "b")
        self.assertEqual(self.client.rollback(), {"dry_run": False})
        for listed in (versions[:2], versions[:1], []):
            self.server.on("GET", "/v1/deployments", Answer(listed))
            with self.assertRaises(errors.DeploymentNotFoundError):
                self.client.rollback()

    def test_a_function_without_a_project_is_deployed(self):
        root = self.folder()
        (root / "app.py").write_text("def handler(event, context): ...")
        (root / "lib").mkdir()
        (root / "lib" / "logo").write_bytes(b"\xff")
        (root / ".hidden").write_text("")
        path = "/v1/functions/price"
        self.server.on("PUT", path, Answer({"name": "price", "version": 1}))
        deployed = self.client.deploy_function(
            "price",
            root,
            runtime="python3.11",
            handler="app.handler",
            memory="256MiB",
            timeout=1.5,
            env={"LEVEL": 2},
            secrets=["KEY"],
            network="*",
            provisioned_concurrency=0,
        )
        self.assertEqual(deployed["version"], 1)
        settings = {
            "runtime": "python3.11",
            "handler": "app.handler",
            "memory_bytes": 256 << 20,
            "timeout_ms": 1500,
            "env": {"LEVEL": "2"},
            "secrets": ["KEY"],
            "network": ["*"],
            "provisioned_concurrency": 0,
        }
        files = {
            "app.py": "def handler(event, context): ...",
            "lib/logo": {"base64": "/w==", "executable": False},
        }
        self.assertEqual(self.server.last().body, {"files": files, **settings})
        archive = root / "price.zip"
        archive.write_bytes(b"PK")
        self.client.deploy_function("price", archive, runtime="provided")
        self.assertEqual(self.server.last().body, {"archive": "UEs=", "runtime": "provided"})
        self.client.deploy_function("price", archive, env={}, network=[], reset=["memory"])
        changed = {"env": {}, "network": [], "reset": ["memory"]}
        self.assertEqual(self.server.last().body, {"archive": "UEs=", **changed})
        os.symlink("app.py", root / "linked.py")
        with self.assertRaisesRegex(errors.InvalidArgumentError, "is a link"):
            self.client.deploy_function("price", root, runtime="provided")
        with self.assertRaisesRegex(errors.InvalidArgumentError, "cannot be read"):
            self.client.deploy_function("price", root / "missing", runtime="provided")

    def test_a_large_function_is_uploaded(self):
        root = self.folder()
        (root / "app.py").write_text("def handler(event, context): ...")
        with open(root / "model.bin", "wb") as file:
            file.truncate((32 << 20) + 1)
        uploaded = "/uploads/1/function.zip"
        self.server.on("POST", "/v1/uploads", Answer({"path": uploaded}, 201))
        self.server.on("PUT", "/v1/functions/price", Answer({"name": "price", "version": 1}))
        self.client.deploy_function("price", root, runtime="provided")
        upload, deployed = self.server.seen
        with zipfile.ZipFile(io.BytesIO(upload.body)) as archive:
            self.assertEqual(archive.namelist(), ["app.py", "model.bin"])
        self.assertEqual(deployed.body["upload"], uploaded)
        self.assertNotIn("files", deployed.body)

    def test_the_upload_of_a_failed_deployment_is_deleted(self):
        root = self.folder()
        with open(root / "model.bin", "wb") as file:
            file.truncate((32 << 20) + 1)
        uploaded = "/uploads/1/function.zip"
        self.server.on("POST", "/v1/uploads", Answer({"path": uploaded}, 201))
        self.server.on("DELETE", "/v1/uploads", Answer(b"", 204))
        wrong = Answer({"code": "invalid_argument", "message": "no such handler"}, 400)
        self.server.on("PUT", "/v1/functions/price", wrong)
        self.server.on("POST", "/v1/layers/deps/versions", wrong)
        with self.assertRaisesRegex(errors.InvalidArgumentError, "no such handler"):
            self.client.deploy_function("price", root, runtime="provided")
        deleted = self.server.last()
        self.assertEqual((deleted.method, deleted.parameters), ("DELETE", {"path": uploaded}))
        with self.assertRaisesRegex(errors.InvalidArgumentError, "no such handler"):
            self.client.publish_layer("deps", root)
        self.assertEqual([seen.method for seen in self.server.seen][3:], ["POST", "POST", "DELETE"])

    def test_aliases_and_urls_of_a_function_are_managed(self):
        alias = "/v1/functions/price/aliases/live"
        self.server.on("POST", alias, Answer({"version": 1}, 201))
        self.client.create_function_alias("price", "live", 1, weights={2: 0.1})
        sent = {"version": 1, "weights": {"2": 0.1}, "description": ""}
        self.assertEqual(self.server.last().body, sent)
        self.server.on("PUT", alias, Answer({"version": None}))
        self.client.update_function_alias("price", "live", None, description="newest")
        sent = {"version": None, "weights": {}, "description": "newest"}
        self.assertEqual(self.server.last().body, sent)
        aliases = {"live": {"version": 1}}
        self.server.on("GET", "/v1/functions/price", Answer({"aliases": aliases}))
        self.assertEqual(self.client.function_aliases("price"), aliases)
        self.server.on("DELETE", alias, Answer(b"", 204))
        self.client.delete_function_alias("price", "live", if_exists=True)
        self.assertEqual(self.server.last().parameters, {"if_exists": "true"})
        url = "/v1/functions/price/url"
        self.server.on("PUT", url, Answer({"path": "/lambda-url/price:live/"}))
        self.client.set_function_url("price", auth="iam", alias="live")
        self.assertEqual(self.server.last().body, {"auth": "iam"})
        self.assertEqual(self.server.last().parameters, {"alias": "live"})
        self.client.set_function_url("price", stream=False, exists=True)
        self.assertEqual(self.server.last().body, {"stream": False, "exists": True})
        self.server.on("GET", url, Answer({"auth": "iam"}))
        self.assertEqual(self.client.function_url("price")["auth"], "iam")
        self.server.on("DELETE", url, Answer(b"", 204))
        self.client.delete_function_url("price")

    def test_layers_are_managed(self):
        root = self.folder()
        (root / "python").mkdir()
        (root / "python" / "shared.py").write_text("RATE = 2")
        versions = "/v1/layers/rates/versions"
        self.server.on("POST", versions, Answer({"layer": "rates", "version": 1}, 201))
        published = self.client.publish_layer("rates", root, description="two")
        self.assertEqual(published["version"], 1)
        sent = {"files": {"python/shared.py": "RATE = 2"}, "description": "two"}
        self.assertEqual(self.server.last().body, sent)
        self.server.on("GET", "/v1/layers", Answer([published]))
        self.assertEqual(self.client.layers(), [published])
        self.server.on("DELETE", f"{versions}/1", Answer(b"", 204))
        self.client.delete_layer("rates", 1, if_exists=True)
        self.assertEqual(self.server.last().parameters, {"if_exists": "true"})

    def test_a_function_of_a_project_is_called(self):
        root = self.folder()
        (root / "headwater.toml").write_text("[project]\n")
        self.server.on("POST", self.PATH, Answer(3))
        self.assertEqual(self.client.invoke_project(root, "greet", name="you"), 3)
        sent = {"arguments": {"name": "you"}, "files": {"headwater.toml": "[project]\n"}}
        self.assertEqual(self.server.last().body, sent)

    def test_a_table_argument_is_sent_as_arrow(self):
        Table = type("Table", (), {"__module__": "pyarrow.lib"})
        self.server.on("POST", self.PATH, Answer(3))
        with mock.patch("headwater.functions.to_stream", return_value=b"rows"):
            self.assertEqual(self.client.invoke("greet", rows=Table(), times=2), 3)
            with self.assertRaisesRegex(errors.InvalidArgumentError, "one table"):
                self.client.invoke("greet", rows=Table(), others=Table())
        seen = self.server.last()
        self.assertEqual((seen.body, seen.headers["content-type"]), (b"rows", ARROW))
        self.assertEqual(seen.parameters, {"table": "rows", "arguments": '{"times": 2}'})

    def test_a_functions_error_is_raised(self):
        problem = {"code": "function_failed", "message": "ValueError: no"}
        self.server.on("POST", self.PATH, Answer(problem, 422))
        with self.assertRaisesRegex(errors.FunctionFailedError, "ValueError: no"):
            self.client.invoke("greet")


if __name__ == "__main__":
    unittest.main()
