"""Tests of the error classes, and of errors that are created from the server's JSON."""

import copy
import pickle
import re
import unittest
from pathlib import Path

from headwater import errors

TABLE = Path(__file__).parents[2] / "crates" / "model" / "src" / "error.rs"


class Errors(unittest.TestCase):
    def test_the_codes_are_those_of_the_server(self):
        rows = re.findall(r'\(ErrorCode::(\w+), "(\w+)", \d+', TABLE.read_text())
        self.assertEqual(errors.CODES, tuple(code for _, code in rows))
        for name, code in rows:
            self.assertEqual(errors.BY_CODE[code].__name__, f"{name}Error")
            self.assertIs(getattr(errors, f"{name}Error"), errors.BY_CODE[code])

    def test_type_checkers_see_each_class(self):
        source = Path(errors.__file__).read_text()
        declared = re.findall(r"^    class (\w+)\(HeadwaterError\): \.\.\.$", source, re.MULTILINE)
        self.assertEqual(declared, [made.__name__ for made in errors.BY_CODE.values()])

    def test_a_problem_becomes_the_error_of_its_code(self):
        error = errors.from_problem(
            {
                "code": "table_not_found",
                "message": "no table `flihgts` at `main`",
                "causes": ["the namespace `public` has 3 tables"],
                "hint": "Did you mean `flights`?",
                "context": {"table": "flihgts"},
            }
        )
        self.assertIsInstance(error, errors.TableNotFoundError)
        self.assertIsInstance(error, errors.HeadwaterError)
        self.assertEqual(error.code, "table_not_found")
        self.assertEqual(error.context, {"table": "flihgts"})
        self.assertEqual(
            str(error),
            "no table `flihgts` at `main`\n"
            "caused by: the namespace `public` has 3 tables\n"
            "hint: Did you mean `flights`?",
        )

    def test_optional_fields_of_a_problem_can_be_missing(self):
        error = errors.from_problem({"code": "internal", "message": "a fault"})
        self.assertEqual((str(error), error.hint, error.context), ("a fault", None, {}))

    def test_a_code_of_a_later_version_is_still_an_error(self):
        error = errors.from_problem({"code": "sunspots", "message": "too many"})
        self.assertIs(type(error), errors.HeadwaterError)
        self.assertEqual(error.code, "sunspots")

    def test_errors_can_be_pickled(self):
        error = errors.make("bad_row", "row `3`", "Mend it.", {"line": 3}, ["a letter"])
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            self.assertIs(type(twin), errors.BadRowError)
            self.assertEqual(str(twin), str(error))
            self.assertEqual(twin.context, {"line": 3})


if __name__ == "__main__":
    unittest.main()
