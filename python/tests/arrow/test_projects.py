"""Tests of the client's runs and deployments with a real server."""

import os
import unittest
from pathlib import Path

from real_server import RealServer


class Projects(RealServer):
    def test_the_command_and_the_client_send_the_same_files(self):
        settings = Path(self.folder, "headwater.toml").read_text()
        functions = """
[functions.upper]
command = ["sh", "./web/upper.sh", "web"]
files = ["web/lib/", "assets"]
"""
        self.write("headwater.toml", settings + functions)
        for path in (
            "models/a.sql",
            "models/deep/b.sql",
            "models/.hidden.sql",
            "models/__pycache__/c.sql",
            "data/d.sql",
            "build/e.py",
            "dist/f.py",
            "shop.egg-info/g.py",
            "packages/site-packages/h.py",
            "env/pyvenv.cfg",
            "env/i.py",
            "cache/CACHEDIR.TAG",
            "cache/j.py",
            "other/headwater.toml",
            "other/k.sql",
            "third/bauplan_project.yml",
            "third/l.sql",
            "web/node_modules/m.py",
            "web/upper.sh",
            "web/other.sh",
            "web/lib/text.txt",
            "web/lib/.cache",
            "notes.md",
            "notes.yaml",
        ):
            self.write(path, "SELECT 1 AS n")
        self.write("assets/logo", b"\xff\x00")
        os.symlink("../notes.md", Path(self.folder, "web/lib/linked"))
        by_command = self.json("deploy", "--dry-run")["deployment"]
        by_client = self.client.deploy(self.folder, dry_run=True)["deployment"]
        self.assertEqual(by_client["files"], by_command["files"])
        self.assertIn("web/lib/text.txt", by_client["files"])
        self.assertEqual(by_client["version"], by_command["version"], "the contents differ")


if __name__ == "__main__":
    unittest.main()
