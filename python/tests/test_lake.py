"""Tests that find a local lake, and connect to its server over the Unix socket."""

import os
import socket
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

from stand_in import Answer, serve_lake

import headwater
from headwater import connection, errors


class Lake(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(os.path.realpath(folder.name))
        self.lake = self.root / ".headwater"

    def test_the_nearest_lake_upwards_is_found(self):
        deep = self.root / "a" / "b"
        deep.mkdir(parents=True)
        with self.assertRaisesRegex(errors.FileNotFoundError, "no lake in this folder"):
            connection.find_lake(None, str(deep))
        self.lake.mkdir()
        self.assertEqual(connection.find_lake(None, str(deep)), str(self.lake))

    def test_a_lake_is_named_by_itself_or_by_its_folder(self):
        with self.assertRaisesRegex(errors.FileNotFoundError, "no lake in `"):
            headwater.Client(lake=self.root)
        self.lake.mkdir()
        for named in (self.root, self.lake, str(self.lake)):
            self.assertEqual(connection.find_lake(named), str(self.lake))

    def test_requests_go_over_the_socket(self):
        with serve_lake(self.lake) as server:
            server.on("GET", "/v1/branches", Answer([{"name": "main"}]))
            server.on("POST", "/v1/query", Answer([{"one": 1}]))
            client = headwater.Client(lake=self.root)
            self.assertEqual(client.branches(), [{"name": "main"}])
            self.assertEqual(client.query_rows("SELECT 1 AS one"), [{"one": 1}])

    def test_a_socket_can_have_a_long_path(self):
        deep = self.root / ("long-" * 30) / ".headwater"
        with serve_lake(deep) as server:
            server.on("GET", "/v1/branches", Answer([]))
            self.assertEqual(headwater.Client(lake=deep).branches(), [])

    def command(self, text):
        """Writes a program that replaces the command `headwater`. Returns its path."""
        path = self.root / "headwater"
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}")
        path.chmod(0o755)
        return str(path)

    def test_a_server_is_started_for_a_lake_without_one(self):
        self.lake.mkdir()
        # A killed server leaves its record and a socket without a listener.
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(self.lake / "old.sock"))
        dead.close()
        record = f'{{"pid": 1, "version": "0.1.0", "socket": "{self.lake}/old.sock"}}'
        (self.lake / "server.json").write_text(record)
        # The command starts a server in the background; here the test has already started one.
        command = self.command(
            """
            import os, sys
            assert sys.argv[1:4] == ["query", "SELECT 1", "--lake"], sys.argv
            os.rename(sys.argv[4] + "/new.json", sys.argv[4] + "/server.json")
            """
        )
        with serve_lake(self.root / "running") as server:
            server.on("GET", "/v1/branches", Answer([]))
            os.rename(self.root / "running" / "server.json", self.lake / "new.json")
            client = headwater.Client(lake=self.root, command=command)
            self.assertEqual(client.branches(), [])
            # The second request uses the running server.
            self.assertEqual(client.branches(), [])
            self.assertEqual(len(server.seen), 2)

    def test_a_server_that_does_not_start_says_why(self):
        self.lake.mkdir()
        command = self.command("import sys; sys.exit('error: the disk is full')")
        with self.assertRaises(errors.UnavailableError) as raised:
            headwater.Client(lake=self.root, command=command).branches()
        self.assertEqual(raised.exception.causes, ("error: the disk is full",))

    def test_a_missing_command_is_named(self):
        self.lake.mkdir()
        client = headwater.Client(lake=self.root, command=str(self.root / "missing"))
        with self.assertRaisesRegex(errors.UnavailableError, "missing`, which starts the lake.s server, was not found"):
            client.branches()


if __name__ == "__main__":
    unittest.main()
