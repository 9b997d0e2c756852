"""Tests of Apache Superset's SQL Lab on a branch, through Superset's own API.

Arguments: host, port, token. Superset keeps its metadata in SQLite in a temporary folder.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

HOST, PORT, TOKEN = sys.argv[1], int(sys.argv[2]), sys.argv[3]
URI = f"postgresql+psycopg2://ann:{TOKEN}@{HOST}:{PORT}/main"
FOLDER = tempfile.TemporaryDirectory(prefix="superset-")
SETTINGS = f"""
SECRET_KEY = "a key that only this test uses, with a sufficient length"
SQLALCHEMY_DATABASE_URI = "sqlite:///{FOLDER.name}/superset.db"
DATA_DIR = "{FOLDER.name}"
WTF_CSRF_ENABLED = False
TALISMAN_ENABLED = False
RATELIMIT_ENABLED = False
FEATURE_FLAGS = {{"ESTIMATE_QUERY_COST": True}}
"""
Path(FOLDER.name, "superset_config.py").write_text(SETTINGS, encoding="utf-8")
os.environ["SUPERSET_CONFIG_PATH"] = f"{FOLDER.name}/superset_config.py"
os.environ["SUPERSET_HOME"] = FOLDER.name

import superset  # noqa: E402
from superset.app import create_app  # noqa: E402

APP = create_app()
USER = {"username": "ann", "password": "a password", "provider": "db", "refresh": False}


def initialise() -> None:
    """Creates Superset's metadata and an administrator."""
    from flask_migrate import upgrade
    from superset import security_manager

    upgrade(directory=str(Path(superset.__file__).parent / "migrations"))
    APP.appbuilder.add_permissions(update_perms=True)
    security_manager.sync_role_definitions()
    role = security_manager.find_role("Admin")
    security_manager.add_user("ann", "Ann", "Lee", "ann@example.org", role, USER["password"])


class Lab:
    """The API of SQL Lab for one database connection."""

    def __init__(self) -> None:
        self.database = 0
        answer = APP.test_client().post("/api/v1/security/login", json=USER)
        self.headers = {"Authorization": f"Bearer {answer.json['access_token']}"}

    def get(self, path: str) -> dict:
        answer = APP.test_client().get(f"/api/v1{path}", headers=self.headers)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json

    def post(self, path: str, body: dict, status: int = 200) -> dict:
        answer = APP.test_client().post(f"/api/v1{path}", json=body, headers=self.headers)
        assert answer.status_code == status, (path, answer.status_code, answer.text)
        return answer.json

    def execute(self, sql: str, status: int = 200, client: str = "") -> dict:
        body = {
            "database_id": self.database,
            "schema": "public",
            "sql": sql,
            "runAsync": False,
            "client_id": client or os.urandom(5).hex(),
        }
        return self.post("/sqllab/execute/", body, status)


def connects(lab: Lab) -> None:
    """Tests a connection and saves it."""
    connection = {"database_name": "lake", "sqlalchemy_uri": URI}
    lab.post("/database/test_connection/", connection)
    connection |= {"expose_in_sqllab": True, "allow_dml": True}
    lab.database = lab.post("/database/", connection, 201)["id"]


def writes(lab: Lab) -> None:
    """Creates a table and a view."""
    lab.execute(
        "CREATE TABLE orders AS SELECT 1 AS id, 'tea' AS product, 2.5 AS price, "
        "DATE '2026-01-02' AS day"
    )
    lab.execute("INSERT INTO orders VALUES (2, 'jam', 4.0, DATE '2026-01-03')")
    lab.execute("CREATE VIEW cheap AS SELECT id FROM orders WHERE price < 3")


def lists(lab: Lab) -> None:
    """Lists schemas, tables, views and columns, as the side bar of SQL Lab does."""
    path = f"/database/{lab.database}"
    schemas = lab.get(f"{path}/schemas/")["result"]
    assert sorted(schemas) == ["information_schema", "public"], schemas
    tables = lab.get(f"{path}/tables/?q=(force:!t,schema_name:public)")["result"]
    assert sorted((one["value"], one["type"]) for one in tables) == [
        ("cheap", "view"),
        ("orders", "table"),
    ], tables
    described = lab.get(f"{path}/table_metadata/?name=orders&schema=public")
    columns = [(column["name"], column["type"]) for column in described["columns"]]
    assert columns == [
        ("id", "BIGINT"),
        ("product", "TEXT"),
        ("price", "DOUBLE_PRECISION"),
        ("day", "DATE"),
    ], columns
    assert "FROM public.orders" in described["selectStar"]


def reads(lab: Lab) -> None:
    """Runs queries and shows their rows, their cost and their errors."""
    answer = lab.execute("SELECT * FROM orders ORDER BY id")
    assert answer["data"] == [
        {"id": 1, "product": "tea", "price": 2.5, "day": "2026-01-02"},
        {"id": 2, "product": "jam", "price": 4.0, "day": "2026-01-03"},
    ], answer
    types = {column["name"]: column["type"] for column in answer["columns"]}
    assert types == {"id": "LONGINTEGER", "product": "STRING", "price": "FLOAT", "day": "DATE"}
    assert lab.execute("SELECT id FROM cheap")["data"] == [{"id": 1}]
    body = {"database_id": lab.database, "schema": "public", "sql": "SELECT * FROM orders"}
    costs = lab.post("/sqllab/estimate/", body)["result"]
    assert float(costs[0]["Total cost"]) > 0, costs
    failed = lab.execute("SELECT nothing FROM orders", 500)["errors"][0]
    assert "column `nothing` is not in `orders`" in failed["message"], failed


def stops(lab: Lab) -> None:
    """Stops a running query, as the button of SQL Lab does."""
    import psycopg2

    numbers = "generate_series(1, 10000000)"
    sql = f"SELECT sum(a.x + b.y) AS n FROM {numbers} AS a (x), {numbers} AS b (y)"
    arguments = {"sql": sql, "client": "endless"}
    running = threading.Thread(target=lab.execute, kwargs=arguments, daemon=True)
    running.start()
    connection = psycopg2.connect(host=HOST, port=PORT, user="ann", password=TOKEN, dbname="main")
    connection.autocommit = True
    # SQL Lab formats the query.
    found = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%SUM(a.x%'"
    found += " AND pid <> pg_backend_pid()"
    with connection.cursor() as cursor:
        deadline = time.monotonic() + 60
        cursor.execute(found)
        while not cursor.fetchall():
            assert time.monotonic() < deadline, "the query does not run"
            time.sleep(0.1)
            cursor.execute(found)
        lab.post("/query/stop", {"client_id": "endless"})
        running.join(timeout=60)
        assert not running.is_alive(), "the query is still running"
        cursor.execute(found)
        assert cursor.fetchall() == []


with APP.app_context():
    initialise()
LAB = Lab()
for test in [connects, writes, lists, reads, stops]:
    test(LAB)
