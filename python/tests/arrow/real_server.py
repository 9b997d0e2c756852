"""The base of tests with a real server: the built command, and a lake in a temporary folder."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import headwater

BUILT = Path(__file__).parents[3] / "target" / "debug" / "headwater"
COMMAND = os.environ.get("HEADWATER_COMMAND", str(BUILT))


@unittest.skipUnless(os.path.exists(COMMAND), "NOT CHECKED: the command is not built")
class RealServer(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.headwater("init", "--name", "test")
        self.addCleanup(self.headwater, "stop")
        self.client = headwater.Client(lake=self.folder, command=COMMAND, author="eva")

    def headwater(self, *arguments):
        """Runs a command in the lake's folder. Returns its standard output."""
        ended = subprocess.run(
            [COMMAND, *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        self.assertEqual(ended.returncode, 0, ended.stderr)
        return ended.stdout

    def json(self, *arguments):
        """Runs a command in the lake's folder. Returns the JSON that the command prints."""
        return json.loads(self.headwater(*arguments, "--output", "json"))

    def rows(self, sql, **options):
        return self.client.query(sql, **options).to_pylist()

    def write(self, path, content):
        """Writes a file in the project's folder."""
        path = Path(self.folder) / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
