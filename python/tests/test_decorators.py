"""Tests of the settings that decorators and markers store, and of their errors."""

import copy
import pickle
import subprocess
import sys
import unittest

import headwater
from headwater.errors import InvalidProjectError


def read(**arguments):
    """Decorates a function as a model with these arguments. Returns the stored settings."""
    return headwater.model(**arguments)(lambda: None).__headwater__["model"]


class Decorators(unittest.TestCase):
    def test_a_decorated_function_is_called_as_before(self):
        @headwater.model(materialization="replace")
        @headwater.python("3.11", pip={"polars": "1.38.1"})
        def doubled(number, factor=2):
            """Twice as much."""
            return number * factor

        self.assertEqual(doubled(21), 42)
        self.assertEqual((doubled.__name__, doubled.__doc__), ("doubled", "Twice as much."))

    def test_decorators_apply_in_any_order(self):
        def noted(*decorators):
            def function():
                return True

            for decorate in decorators:
                function = decorate(function)
            return function.__headwater__

        python = headwater.python("3.12", pip={})
        for other in (headwater.model(), headwater.expectation("positive")):
            self.assertEqual(noted(python, other), noted(other, python))

    def test_all_arguments_are_stored(self):
        noted = read(
            name="shop.daily",
            materialization="merge",
            keys="day",
            columns=["day", "amount"],
            partition_by="day(day), city, bucket(16, id), truncate(id, 4)",
            allow_takeover=True,
            network=True,
            memory="512MiB",
            timeout="1min",
            cpus=1.5,
            priority="low",
            tmp="2GiB",
            env={"TOKEN": "secret"},
            secrets=["STRIPE_KEY"],
            overwrite_filter="day > 1",
            lineage={"amount": "orders.amount", "day": ["orders.at", "days.day"]},
        )
        self.assertEqual(
            noted,
            {
                "name": "shop.daily",
                "materialization": "merge",
                "keys": ("day",),
                "columns": ("day", "amount"),
                "partition_by": ("day(day)", "city", "bucket(16, id)", "truncate(id, 4)"),
                "allow_takeover": True,
                "reuse": False,
                "network": True,
                "memory": "512MiB",
                "timeout": "1min",
                "cpus": 1.5,
                "priority": "low",
                "retries": 0,
                "backoff": None,
                "outputs": (),
                "expect": None,
                "expect_or_warn": None,
                "expect_or_quarantine": None,
                "tags": None,
                "tmp": "2GiB",
                "env": {"TOKEN": "secret"},
                "secrets": ("STRIPE_KEY",),
                "overwrite_filter": "day > 1",
                "lineage": {"amount": ("orders.amount",), "day": ("orders.at", "days.day")},
            },
        )

    def test_secrets_are_names_that_env_does_not_have(self):
        for secrets in ("KEY", 3, ["A-B"], [""], [None], ["1A"]):
            with self.assertRaises(InvalidProjectError):
                read(secrets=secrets)
        with self.assertRaises(InvalidProjectError) as caught:
            read(env={"KEY": "hidden"}, secrets=["KEY"])
        self.assertNotIn("hidden", str(caught.exception))

    def test_sizes_and_times_have_units_or_are_numbers(self):
        for memory in ("512MiB", "2 GB", "1.5g", 1_000_000):
            self.assertEqual(read(memory=memory)["memory"], memory)
        for timeout in ("500ms", "30s", "5m", "1h", 30, 0.5):
            self.assertEqual(read(timeout=timeout)["timeout"], timeout)

    def test_columns_can_have_types(self):
        columns = {"day": "date not null", "amount": "any"}
        self.assertEqual(read(columns=columns)["columns"], columns)

    def test_invalid_decorator_arguments_are_rejected_by_value(self):
        for arguments, value in (
            ({"name": "a/b"}, "`a/b`"),
            ({"name": "a..c"}, "`a..c`"),
            ({"materialization": "REPLACE"}, "`REPLACE`"),
            ({"columns": "day"}, "`'day'`"),
            ({"columns": ["day", "day"]}, "`day`"),
            ({"columns": {}}, "`[]`"),
            ({"columns": {"day": 3}}, "`3`"),
            ({"reuse": 1}, "`1`"),
            ({"reuse": True, "network": True}, "network"),
            ({"network": 1}, "`1`"),
            ({"network": ["https://example.com"]}, "`https://example.com`"),
            ({"cpus": 0}, "`0`"),
            ({"priority": "urgent"}, "`urgent`"),
            ({"overwrite_filter": ""}, "overwrite_filter"),
            ({"lineage": ["day"]}, "`['day']`"),
            ({"lineage": {"day": 3}}, "`3`"),
            ({"tmp": "big"}, "`big`"),
            ({"expect": 3}, "`3`"),
            ({"expect_or_quarantine": [""]}, "expect_or_quarantine"),
            ({"env": {"1st": "x"}}, "`1st`"),
            ({"env": {"TOKEN": 7}}, "`TOKEN`"),
            ({"columns": [1]}, "`1`"),
            ({"partition_by": "week(day)"}, "`week(day)`"),
            ({"partition_by": "bucket(day)"}, "`bucket(day)`"),
            ({"partition_by": "truncate(0, day)"}, "`truncate(0, day)`"),
            ({"partition_by": "day()"}, "`day()`"),
            ({"partition_by": ["city", ""]}, "`''`"),
            ({"keys": ["day", "day"]}, "`day`"),
            ({"allow_takeover": "yes"}, "`'yes'`"),
            ({"network": "yes"}, "`'yes'`"),
            ({"memory": "12 parsecs"}, "`12 parsecs`"),
            ({"memory": 0}, "`0`"),
            ({"memory": True}, "`True`"),
            ({"memory": "1GiB 2MiB"}, "`1GiB 2MiB`"),
            ({"timeout": "soon"}, "`soon`"),
            ({"timeout": "30m1h"}, "`30m1h`"),
            ({"timeout": "1H"}, "`1H`"),
            ({"timeout": -1}, "`-1`"),
        ):
            with self.subTest(arguments), self.assertRaises(InvalidProjectError) as raised:
                headwater.model(**arguments)
            self.assertIn(value, raised.exception.message)

    def test_sizes_and_durations_are_those_of_the_server(self):
        for size in ("512MiB", "1.5GiB", "1.5g", "2 kB", "1TB", " 12 ", "7b"):
            headwater.model(memory=size, tmp=size)
        for duration in ("90s", "250ms", " 15 m", "10min", "1h30m", "1h 30min 5s", "1.5h", "2d", "60"):
            headwater.model(timeout=duration)

    def test_the_budget_of_a_function_is_stored(self):
        decorated = headwater.function(calls_per_day=10, time_per_day="2h", money_per_day=2.5)
        noted = decorated(lambda event: event).__headwater__["function"]
        budget = [noted[key] for key in ("calls_per_day", "time_per_day", "money_per_day")]
        self.assertEqual(budget, [10, "2h", 2.5])
        for budget in (
            {"calls_per_day": -1},
            {"calls_per_day": 1.5},
            {"calls_per_day": True},
            {"time_per_day": "soon"},
            {"money_per_day": -0.5},
            {"money_per_day": float("nan")},
            {"money_per_day": "1"},
        ):
            with self.subTest(budget=budget), self.assertRaises(InvalidProjectError):
                headwater.function(**budget)

    def test_triggers_of_a_function_are_stored(self):
        schedule = {"schedule": {"cron": "0 6 * * *", "timezone": "Europe/Berlin"}}
        bucket = {"bucket": {"name": "landing", "prefix": "in/"}, "name": "landed", "retries": 2}
        decorated = headwater.function(on=[schedule, bucket])(lambda event: event)
        self.assertEqual(decorated.__headwater__["function"]["on"], (schedule, bucket))
        self.assertEqual(decorated(7), 7)
        self.assertIsNone(headwater.function()(lambda: None).__headwater__["function"]["on"])

    def test_invalid_triggers_are_rejected_by_value(self):
        for on, value in (
            ("0 6 * * *", "`'0 6 * * *'`"),
            ({"queue": "orders"}, "`{'queue': 'orders'}`"),
            (7, "`7`"),
            (["0 6 * * *"], "`'0 6 * * *'`"),
            ([{7: "orders"}], "`7`"),
            ([{"queue": "orders", "run": True}], "`run`"),
            ([{"queue": "orders", "function": "other"}], "`function`"),
        ):
            with self.subTest(on), self.assertRaises(InvalidProjectError) as raised:
                headwater.function(on=on)
            self.assertIn(value, raised.exception.message)

    def test_invalid_environments_are_rejected(self):
        for arguments, value in (
            ({"version": 3.10}, "`3.1`"),
            ({"version": "three"}, "`three`"),
            ({"version": "2.7"}, "`2.7`"),
            ({"pip": ["polars"]}, "`['polars']`"),
            ({"pip": {"polars": 1.38}}, "`1.38`"),
            ({"system": "chromium"}, "`'chromium'`"),
            ({"system": ["/usr/bin/x"]}, "`/usr/bin/x`"),
            ({"pip": {"": "1"}}, "`''`"),
        ):
            with self.subTest(arguments), self.assertRaises(InvalidProjectError) as raised:
                headwater.python(**arguments)
            self.assertIn(value, raised.exception.message)

    def test_a_decorator_without_parentheses_is_explained(self):
        for decorate in (headwater.model, headwater.expectation, headwater.python):
            with self.subTest(decorate.__name__), self.assertRaises(InvalidProjectError) as raised:

                @decorate
                def daily():
                    return None

            self.assertIn("without parentheses on `daily`", str(raised.exception))
            self.assertIn(f"Write `@headwater.{decorate.__name__}(", raised.exception.hint)

    def test_a_function_has_one_kind_of_decorator_once(self):
        with self.assertRaisesRegex(InvalidProjectError, "both a model and an expectation"):
            headwater.expectation()(headwater.model()(lambda: None))
        with self.assertRaisesRegex(InvalidProjectError, "`@headwater.model` twice"):
            headwater.model()(headwater.model()(lambda: None))
        with self.assertRaisesRegex(InvalidProjectError, "decorates functions, not `7`"):
            headwater.model()(7)


class Markers(unittest.TestCase):
    def test_markers_store_their_arguments(self):
        marker = headwater.Model("orders", columns=["id", "amount"], filter="amount > $minimum")
        fields = (marker.name, marker.columns, marker.filter)
        self.assertEqual(fields, ("orders", ("id", "amount"), "amount > $minimum"))
        self.assertEqual(headwater.Parameter("minimum").name, "minimum")
        self.assertEqual(
            repr(headwater.Model("orders")), "Model(name='orders', columns=None, filter=None, incremental=False, batches=False)"
        )

    def test_markers_are_values(self):
        one = headwater.Model("orders", columns=["id"])
        same = headwater.Model("orders", columns=("id",))
        self.assertEqual(one, same)
        self.assertEqual(len({one, same, headwater.Model("orders")}), 2)
        self.assertNotEqual(headwater.Parameter("orders"), headwater.Model("orders"))
        self.assertEqual(pickle.loads(pickle.dumps(one)), one)
        self.assertEqual(copy.deepcopy(one), one)

    def test_markers_are_immutable(self):
        marker = headwater.Parameter("minimum")
        with self.assertRaises(AttributeError):
            marker.name = "maximum"
        with self.assertRaises(AttributeError):
            del marker.name
        with self.assertRaises(AttributeError):
            marker.other = 1

    def test_invalid_markers_are_rejected(self):
        for make in (
            lambda: headwater.Model(""),
            lambda: headwater.Model(7),
            lambda: headwater.Model("orders", columns="id"),
            lambda: headwater.Model("orders", columns=[]),
            lambda: headwater.Model("orders", filter=" "),
            lambda: headwater.Parameter(""),
        ):
            with self.assertRaises(InvalidProjectError):
                make()


class Import(unittest.TestCase):
    def test_importing_the_package_imports_nothing_slow(self):
        # Every function imports the SDK, so the import must be fast.
        program = (
            "import sys; before = set(sys.modules); import headwater; "
            "print(*sorted(set(sys.modules) - before))"
        )
        ended = subprocess.run(
            [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True
        )
        self.assertEqual(
            ended.stdout.split(),
            ["__future__", "headwater", "headwater.decorators", "headwater.markers", "headwater.quantity"],
        )

    def test_lazily_loaded_names_exist(self):
        self.assertEqual(headwater.Client.__name__, "Client")
        self.assertIs(headwater.HeadwaterError, headwater.errors.HeadwaterError)
        self.assertTrue(callable(headwater.expectations.expect_column_no_nulls))
        self.assertLessEqual(set(headwater.__all__), set(dir(headwater)))
        with self.assertRaises(AttributeError):
            headwater.nothing


if __name__ == "__main__":
    unittest.main()
