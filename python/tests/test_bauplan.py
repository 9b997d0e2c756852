"""Tests of the package `bauplan`, as projects written for Bauplan use it."""

import unittest
from typing import Annotated

import bauplan
from bauplan import Float64, Int64, Model, Parameter, TableField, TableSchema


class Trips(TableSchema):
    miles: Annotated[Float64 | None, TableField(doc="Length of the trip.")]
    picked_up: bauplan.TimestampMicro[bauplan.UTC] | None
    zone: Int64


class Long(bauplan.TableSchema):
    miles: Annotated[Float64, TableField(lineage=Trips["miles"])]
    note: bauplan.Any | None


class Package(unittest.TestCase):
    def test_decorated_functions_stay_callable(self):
        @bauplan.model(materialization_strategy="REPLACE", partitioned_by=["day(at)"])
        @bauplan.python("3.11", pip={"polars": "1.38.1"})
        @bauplan.resources(cpus=2, memory="1GiB", memory_swap=None, timeout=30)
        def long(trips=bauplan.Model("trips", columns=["miles"]), least=Parameter("least")):
            return (trips, least)

        @bauplan.expectation()
        def checked(trips: Annotated[object, Model("trips", projection_schema=Trips)]) -> bool:
            return trips

        self.assertEqual(long(trips=1, least=2), (1, 2))
        self.assertIs(checked(True), True)
        self.assertEqual(Model("a", filter="x > 1"), Model("a", filter="x > 1"))
        self.assertNotEqual(Model("a"), Parameter("a"))
        self.assertEqual(Model("a", connector=None, connector_config_uri=None), Model("a"))

    def test_schemas_can_refer_to_columns_of_others(self):
        self.assertEqual(Trips["miles"], (Trips, "miles"))

    def test_the_client_names_the_alternative(self):
        with self.assertRaisesRegex(NotImplementedError, "declare its tables as inputs"):
            bauplan.Client(profile="x")
        with self.assertRaisesRegex(AttributeError, "no attribute `nothing` in Headwater"):
            bauplan.nothing  # noqa: B018


if __name__ == "__main__":
    unittest.main()
