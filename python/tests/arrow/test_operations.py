"""Tests of the client's operations with a real server: functions, triggers, namespaces,
environments, usage."""

import sys
import threading
import time
import unittest
from pathlib import Path

import pyarrow
from real_server import RealServer

from headwater import errors
from headwater.runs import FINAL

HANDLER = """
def handler(event, context):
    print("price of", event["id"])
    return event["id"] * 2
"""

# Prints a line, and waits until the call is stopped.
WAITING = """
import threading

def handler(event, context):
    print("waiting", event["id"], flush=True)
    threading.Event().wait()
"""

RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"


class Operations(RealServer):
    def deploy_price(self):
        self.write("price/app.py", HANDLER)
        folder = Path(self.folder, "price")
        deploy = self.client.deploy_function
        return deploy("price", folder, runtime=RUNTIME, handler="app.handler", timeout="30s")

    def test_a_function_is_deployed_called_and_deleted(self):
        client = self.client
        first = self.deploy_price()
        self.assertEqual((first["version"], first["files"]), (1, ["app.py"]))
        self.assertEqual(client.invoke("price", event={"id": 4}), 8)
        self.assertEqual(client.invoke("price:1", event={"id": 5}), 10)
        self.assertEqual(client.function("price")["timeout_ms"], 30_000)
        self.assertEqual([one["version"] for one in client.function_versions("price")], [1])
        logs = list(client.function_logs("price", limit=1))
        self.assertEqual([one["job"]["status"] for one in logs], ["succeeded"])
        output = [event["text"] for event in logs[0]["events"] if event["type"] == "log"]
        self.assertEqual(output, ["price of 5"])
        self.assertEqual(len(list(client.function_logs("price"))), 2)
        versions = list(client.function_logs("price:1"))
        self.assertEqual([one["job"]["summary"] for one in versions], ["price:1"])
        client.delete_function("price")
        client.delete_function("price", if_exists=True)
        with self.assertRaises(errors.FunctionNotFoundError):
            client.function("price")
        with self.assertRaises(errors.JobNotFoundError):
            list(client.function_logs("other"))

    def test_the_calls_of_a_function_are_followed(self):
        self.deploy_price()
        calls = self.client.function_logs("price", follow=True)
        for number in (1, 2):
            self.client.invoke("price", event={"id": number})
            events = []
            # The last output of a call contains the ended job.
            while True:
                output = next(calls)
                events += output["events"]
                if output["job"]["status"] == "succeeded":
                    break
            texts = [event["text"] for event in events if event["type"] == "log"]
            self.assertEqual(texts, [f"price of {number}"])

    def test_lines_of_running_calls_are_yielded_before_the_calls_end(self):
        self.write("wait/app.py", WAITING)
        folder = Path(self.folder, "wait")
        self.client.deploy_function("wait", folder, runtime=RUNTIME, handler="app.handler")
        logs = self.client.function_logs("wait", follow=True)
        calls, threads = [], []
        for number in (1, 2):
            threads.append(threading.Thread(target=self.invoke_until_stopped, args=(number,)))
            threads[-1].start()
            texts = ((one["job"], event.get("text")) for one in logs for event in one["events"])
            calls.append(next(job["id"] for job, text in texts if text == f"waiting {number}"))
        # Both calls have printed their lines, and neither has ended.
        for call in calls:
            self.assertEqual(self.client.job(call)["status"], "running")
            self.client.stop_job(call)
            ended = next(one["job"] for one in logs if one["job"]["status"] in FINAL)
            self.assertEqual((ended["id"], ended["status"]), (call, "cancelled"))
        for thread in threads:
            thread.join()
        logs.close()

    def invoke_until_stopped(self, number):
        with self.assertRaises(errors.HeadwaterError):
            self.client.invoke("wait", event={"id": number})

    def test_a_trigger_is_created_replaced_and_deleted(self):
        client = self.client
        self.deploy_price()
        created = client.create_trigger("nightly", schedule="15 2 * * *", function="price")
        self.assertEqual(created["function"], "price")
        with self.assertRaises(errors.AlreadyExistsError):
            client.create_trigger("nightly", schedule="15 3 * * *", function="price")
        client.create_trigger(
            "nightly", function="price", replace=True, merges={"into": ["main"]}, retries=3
        )
        trigger = client.trigger("nightly")
        self.assertEqual((trigger["retries"], trigger["pending"]), (3, 0))
        self.assertEqual(self.json("trigger", "get", "nightly")["merges"], trigger["merges"])
        client.delete_trigger("nightly")
        client.delete_trigger("nightly", if_exists=True)
        with self.assertRaises(errors.TriggerNotFoundError):
            client.trigger("nightly")

    def test_namespaces_are_created_listed_and_dropped(self):
        client = self.client
        client.create_namespace("raw.eu")
        client.write("raw.eu.orders", pyarrow.table({"id": [1]}))
        names = [one["name"] for one in client.namespaces()]
        self.assertEqual(names, ["public", "raw", "raw.eu"])
        with self.assertRaises(errors.NotEmptyError):
            client.drop_namespace("raw.eu")
        client.drop_table("raw.eu.orders")
        client.drop_namespace("raw.eu")
        client.drop_namespace("raw.eu", if_exists=True)
        with self.assertRaises(errors.NamespaceNotFoundError):
            client.drop_namespace("raw.eu")

    def test_imports_and_maintenance_are_started(self):
        self.write("orders.csv", "id,note\n1,a\n2,NA\n")
        source = Path(self.folder, "orders.csv")
        report = self.client.start_import("orders", source, nulls=["NA"]).result()
        self.assertEqual(report["rows"], 2)
        notes = self.rows("SELECT note FROM orders ORDER BY id")
        self.assertEqual(notes, [{"note": "a"}, {"note": None}])
        report = self.client.start_maintain("orders", compact=True).result(timeout=60)
        self.assertEqual(report["branch"], "main")

    def test_environments_are_described_and_pruned(self):
        client = self.client
        self.deploy_price()
        client.invoke("price", event={"id": 1})
        pruned = client.prune_environments(days=36_500)
        self.assertEqual(pruned["removed"], [])
        for environment in client.environments():
            described = client.environment(environment["id"])
            self.assertEqual(described["environment"]["python"], environment["python"])
        with self.assertRaises(errors.EnvironmentNotFoundError):
            client.rebuild_environment("missing")

    def test_usage_is_grouped(self):
        client = self.client
        client.create_branch("dev")
        client.write("orders", pyarrow.table({"id": [1, 2]}), ref="dev")
        for by in ("kind", "day", "model", "job", "function", "trigger", "branch", "author"):
            with self.subTest(by):
                groups = [line["group"] for line in client.usage(by=by, days=1)]
                self.assertEqual(groups, [line["group"] for line in client.usage(by=by)])
        self.assertIn("dev", [line["group"] for line in client.usage(by="branch")])
        self.assertIn("eva", [line["group"] for line in client.usage(by="author")])

    def test_the_active_branch_and_tags_are_changed(self):
        client = self.client
        client.checkout("dev", create=True)
        client.write("t", pyarrow.table({"n": [1]}))
        self.assertEqual(self.json("status")["branch"], "dev")
        self.assertEqual(client.resolve("dev")["commit"], client.branch("dev")["commit"])
        client.create_tag("v1")
        client.rename_tag("v1", "first")
        self.assertEqual(client.tag("first")["commit"], client.branch("dev")["commit"])
        client.checkout("main")
        self.assertEqual(client.tables(), [])
        with self.assertRaises(errors.RefNotFoundError):
            client.checkout("first")

    def test_the_server_is_stopped_and_started_again(self):
        before = self.client.health()["pid"]
        self.client.stop_server(drain=1.0)
        record = Path(self.folder, ".headwater", "server.json")
        deadline = time.monotonic() + 60
        while record.exists():
            self.assertLess(time.monotonic(), deadline, "the server does not stop")
            time.sleep(0.01)
        self.assertNotEqual(self.client.health()["pid"], before)


if __name__ == "__main__":
    unittest.main()
