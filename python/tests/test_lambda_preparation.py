"""Tests of functions for AWS Lambda that are prepared ahead of their first call."""

import os
import sys
import tempfile
import unittest

from headwater.lambda_handler import Handler
from headwater.lambda_runtime import Runtime

MODULE = """
calls = []
def handler(event, context):
    calls.append(context.aws_request_id)
    return calls
"""

BOOTSTRAP = """
import json, os, urllib.request
root = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"
while True:
    with urllib.request.urlopen(f"{root}/next") as event:
        number = json.load(event)["number"]
        id = event.headers["Lambda-Runtime-Aws-Request-Id"]
    body = json.dumps({"id": id, "next": number + 1}).encode()
    urllib.request.urlopen(f"{root}/{id}/response", body).close()
"""


def call(id):
    return {
        "id": id,
        "function": "f",
        "memory_bytes": 128 << 20,
        "deadline_ms": 0,
        "client_context": None,
        "streams": False,
    }


class Server:
    """Records the names of the messages that a worker would send."""

    def __init__(self):
        self.sent = []

    def send(self, said, **_fields):
        self.sent.append(said)

    def report(self, _text):
        self.sent.append("report")


class Preparation(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        before, path, variables = os.getcwd(), sys.path[:], dict(os.environ)

        def restore():
            os.chdir(before)
            sys.path[:] = path
            os.environ.clear()
            os.environ.update(variables)
            sys.modules.pop("prepared_app", None)

        self.addCleanup(restore)

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_a_python_module_is_imported_but_its_handler_is_not_called(self):
        self.file("prepared_app.py", MODULE)
        handler = Handler("prepared_app.handler", self.folder)
        handler.prepare_call(call("none"), None)
        self.assertEqual(sys.modules["prepared_app"].calls, [])
        handler.begin_call(call("first"), None)
        self.assertEqual(handler({}), ["first"])

    def test_a_runtime_is_started_and_waits_for_its_first_event(self):
        script = self.file("bootstrap.py", BOOTSTRAP)
        runtime, server = Runtime([sys.executable, script], "", self.folder), Server()
        runtime.prepare_call(call("none"), server)
        self.assertEqual(server.sent, ["starting", "started", "report"])
        self.assertTrue(runtime.end_call())
        runtime.begin_call(call("first"), server)
        self.assertEqual(runtime({"number": 1}), {"id": "first", "next": 2})
        self.assertEqual(server.sent.count("starting"), 1)
        runtime._process.kill()
        runtime._process.wait()


if __name__ == "__main__":
    unittest.main()
