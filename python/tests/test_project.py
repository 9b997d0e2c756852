"""Tests of the files of a project that are sent to the server."""

import os
import tempfile
import unittest
from pathlib import Path

from headwater import errors, project


class ReadProject(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def write(self, path, content=""):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def test_only_code_files_are_sent(self):
        for path in (
            "models/deep/er/c.py",
            "models/b.py",
            "a.sql",
            "headwater.toml",
            "notes.md",
            "models/.hidden.py",
            ".headwater/x.py",
            ".venv/x.py",
            "venv/x.py",
            "env/lib/x.py",
            "env/pyvenv.cfg",
            "data/x.sql",
            "node_modules/x.py",
            "models/__pycache__/x.py",
            "another/headwater.toml",
            "another/x.sql",
            "packages/site-packages/x.py",
            "build/x.py",
            "dist/x.py",
            "shop.egg-info/x.py",
            "cache/CACHEDIR.TAG",
            "cache/x.py",
            "notes.yaml",
            "tests/unit/a.yaml",
            "web/upper.js",
        ):
            self.write(path, f"-- {path}")
        os.symlink(self.root / "notes.md", self.root / "linked.sql")
        files = project.read_project(self.root)
        sent = ["a.sql", "headwater.toml", "models/b.py", "models/deep/er/c.py", "tests/unit/a.yaml"]
        self.assertEqual(list(files), sent)
        self.assertEqual(files["models/b.py"], "-- models/b.py")

    def test_a_project_for_bauplan_is_sent(self):
        for path in ("bauplan_project.yml", "models.py", "views/a.sql", "inner/bauplan_project.yaml"):
            self.write(path)
        self.write("inner/b.sql")
        self.assertEqual(
            list(project.read_project(self.root)), ["bauplan_project.yml", "models.py", "views/a.sql"]
        )

    def test_files_that_functions_name_are_sent(self):
        self.write(
            "headwater.toml",
            """
            [functions.upper]
            command = ["node", "./web/upper.js", ".", "web", "data"]
            files = ["web/lib/", "../x", "assets"]
            [functions.price]
            runtime = "nodejs20"
            handler = "src/price.handler"
            [functions.shout]
            runtime = "provided"
            folder = "shout"
            """,
        )
        for path in (
            "web/upper.js",
            "web/other.js",
            "web/lib/text.js",
            "web/lib/.cache",
            "src/price.mjs",
            "bootstrap",
            "shout/bootstrap",
            "shout/data/rows.csv",
        ):
            self.write(path, path)
        self.write("assets/logo", b"\xff\x00")
        os.symlink("/", self.root / "web/lib/outside")
        os.chmod(self.root / "assets/logo", 0o755)
        files = project.read_project(self.root)
        sent = "assets/logo bootstrap headwater.toml shout/bootstrap shout/data/rows.csv src/price.mjs"
        self.assertEqual(list(files), [*sent.split(), "web/lib/text.js", "web/upper.js"])
        self.assertEqual(files["assets/logo"], {"base64": "/wA=", "executable": True})

    def test_an_invalid_project_file_names_no_files(self):
        for settings in (
            "functions = 3",
            "[functions]\nupper = 3",
            '[functions.upper]\ncommand = "web/upper.js"',
            "[functions.upper]\nruntime = 3",
            "[functions",
        ):
            with self.subTest(settings):
                self.assertEqual(project.named_paths(settings), ([], []))

    def test_text_is_sent_unchanged(self):
        self.write("headwater.toml")
        self.write("a.sql", "SELECT 'é'\r\n")
        self.assertEqual(project.read_project(str(self.root))["a.sql"], "SELECT 'é'\r\n")

    def test_a_folder_without_a_project_is_rejected(self):
        with self.assertRaisesRegex(errors.FileNotFoundError, "no `headwater.toml` in `"):
            project.read_project(self.root)

    def test_a_file_in_another_encoding_is_rejected_by_name(self):
        self.write("headwater.toml")
        self.write("latin.sql", b"SELECT '\xe9'")
        with self.assertRaisesRegex(errors.InvalidArgumentError, "latin.sql` is not UTF-8"):
            project.read_project(self.root)

    def test_a_project_over_the_size_limit_is_rejected(self):
        self.write("headwater.toml")
        with open(self.root / "big.sql", "wb") as file:
            file.truncate(project.PROJECT_BYTES_MAX + 1)
        with self.assertRaisesRegex(errors.InvalidArgumentError, "more than 32 MiB"):
            project.read_project(self.root)


if __name__ == "__main__":
    unittest.main()
