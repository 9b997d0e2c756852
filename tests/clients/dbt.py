"""dbt on a branch. Builds the shop project, changes its data, and builds it again.

The profile is the profile in the documentation.

Arguments: host, port, token.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import psycopg2

HOST, PORT, TOKEN = sys.argv[1:4]
PROJECT = Path(__file__).parent / "dbt_shop"
PAGE = Path(__file__).parents[2] / "docs/postgres.md"


def rows(sql: str) -> list[tuple]:
    """Returns the rows of a query."""
    connection = psycopg2.connect(
        host=HOST, port=PORT, user="ann", password=TOKEN, dbname="main"
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(sql)
        found = cursor.fetchall()
    connection.close()
    return found


def dbt(folder: Path, *arguments: str) -> str:
    """Runs dbt and returns its output."""
    environment = os.environ | {
        "HEADWATER_TOKEN": TOKEN,
        "DBT_PROFILES_DIR": str(folder),
    }
    command = [sys.executable, Path(sys.executable).with_name("dbt"), "--no-use-colors", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def builds(folder: Path) -> None:
    """Builds the project, and reads the models."""
    output = dbt(folder, "build")
    assert "PASS=14 WARN=0 ERROR=0 SKIP=0" in output, output
    sales = rows("SELECT city, orders, total FROM shop.sales ORDER BY total")
    assert sales == [
        ("Paris", 1, Decimal("3.50")),
        ("Oslo", 2, Decimal("15.50")),
        (None, 1, Decimal("40.25")),
    ], sales
    large = rows("SELECT product, total FROM shop.large_sales ORDER BY product")
    assert large == [("cup", Decimal("12.00")), ("pot", Decimal("40.25"))], large
    assert rows("SELECT count(*) FROM shop.daily") == [(3,)]
    history = rows("SELECT count(*) FROM shop.customer_history WHERE dbt_valid_to IS NULL")
    assert history == [(3,)], history
    kinds = rows(
        "SELECT table_name, table_type FROM information_schema.tables "
        "WHERE table_schema = 'shop' ORDER BY table_name"
    )
    assert dict(kinds) == {
        "customer_history": "BASE TABLE",
        "customers": "BASE TABLE",
        "daily": "BASE TABLE",
        "large_sales": "VIEW",
        "merged": "BASE TABLE",
        "orders": "BASE TABLE",
        "sales": "BASE TABLE",
        "staged_orders": "VIEW",
    }, kinds


def builds_again(folder: Path) -> None:
    """Builds the project with changed data: another order on an existing day, another price,
    another address."""
    orders = folder / "seeds/orders.csv"
    text = orders.read_text().replace("4,3,pot,40.25", "4,3,pot,41.25")
    orders.write_text(text + "5,2,cup,12.00,2026-11-03\n")
    customers = folder / "seeds/customers.csv"
    customers.write_text(customers.read_text().replace("Paris", "Rome"))
    output = dbt(folder, "build")
    assert "PASS=14 WARN=0 ERROR=0 SKIP=0" in output, output
    daily = rows("SELECT orders, total FROM shop.daily ORDER BY day DESC LIMIT 1")
    assert daily == [(2, Decimal("53.25"))], daily
    assert rows("SELECT count(*) FROM shop.daily") == [(3,)]
    merged = rows("SELECT id, price FROM shop.merged WHERE id > 3 ORDER BY id")
    assert merged == [(4, Decimal("41.25")), (5, Decimal("12.00"))], merged
    history = rows(
        "SELECT city, dbt_valid_to IS NULL FROM shop.customer_history "
        "WHERE id = 2 ORDER BY dbt_valid_from"
    )
    assert history == [("Paris", False), ("Rome", True)], history


def refreshes(folder: Path) -> None:
    """Rebuilds the incremental models, generates the documentation, and lists the remaining
    objects."""
    dbt(folder, "run", "--full-refresh", "--select", "daily", "merged")
    assert rows("SELECT count(*) FROM shop.merged") == [(5,)]
    dbt(folder, "docs", "generate", "--no-compile")
    left = rows(
        "SELECT table_name FROM information_schema.tables "
        "WHERE table_name LIKE '%\\_\\_dbt\\_%'"
    )
    assert left == [], left


with tempfile.TemporaryDirectory() as temporary:
    project = Path(temporary) / "shop"
    shutil.copytree(PROJECT, project)
    profile = PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    (project / "profiles.yml").write_text(profile.replace("5432", PORT))
    builds(project)
    builds_again(project)
    refreshes(project)
