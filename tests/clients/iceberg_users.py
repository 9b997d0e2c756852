"""PyIceberg, DuckDB and `headwater.Client` as four users with different rights, over TLS.

    iceberg_users.py URL TOKEN CERTIFICATE WAREHOUSE SDK ID_TOKEN

TOKEN is the owner's token, which creates the users. `ana` may append on the branch `dev`, `ben` may
do everything with the namespace `shop` on `main`, and `eve` may read. The fourth user logs in with
ID_TOKEN of an OpenID provider, and may read because a role is mapped to its group.

Needs: pyiceberg[pyarrow], duckdb, duckdb-extension-iceberg, duckdb-extension-avro,
duckdb-extension-httpfs.
"""

import json
import os
import pathlib
import ssl
import sys
import urllib.request

import duckdb
import duckdb_extension_avro
import duckdb_extension_httpfs
import duckdb_extension_iceberg
import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import BadRequestError, ForbiddenError
from pyiceberg.types import StringType

ROW = pa.table({"id": pa.array([2], pa.int64())})
GRANTS = {
    "ana": {"namespace:shop": ["select", "insert"], "branch:dev": ["read", "write"]},
    "ben": {
        "namespace:shop": ["select", "insert", "update", "delete", "create", "alter", "drop"],
        "branch:main": ["read", "write"],
    },
    "eve": {"namespace:shop": ["select"], "branch:*": ["read"]},
}


class Owner:
    """The owner of the lake, as a client of the HTTP API."""

    def __init__(self, url, token, certificate):
        self.url, self.token = url, token
        self.context = ssl.create_default_context(cafile=certificate)

    def ask(self, path, body):
        """Sends a request and returns the JSON response."""
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        with urllib.request.urlopen(request, context=self.context) as response:
            return json.loads(response.read() or "null")

    def sql(self, sql):
        """Returns the rows of a statement on `main`."""
        return self.ask("/v1/query", {"sql": sql})

    def user(self, name):
        """Creates a user with its grants. Returns a token of the user."""
        self.ask("/v1/users", {"name": name, "kind": "service"})
        for target, actions in GRANTS[name].items():
            self.ask("/v1/grants", {"grantee": name, "actions": actions, "object": target})
        return self.ask("/v1/tokens", {"user": name, "label": "test"})["secret"]


class User:
    """A user with its clients."""

    def __init__(self, owner, name, certificate, sdk, token=None):
        self.owner, self.name, self.certificate = owner, name, certificate
        self.token = token or owner.user(name)
        self.client = sdk.Client(url=owner.url, token=self.token, certificate=certificate)

    def catalog(self, branch):
        """Logs in with PyIceberg by name and token."""
        options = {
            "uri": f"{self.owner.url}/iceberg/{branch}",
            "credential": f"{self.name}:{self.token}",
            "ssl": {"cabundle": self.certificate},
        }
        return load_catalog(f"{self.name}-{branch}", type="rest", **options)

    def duck(self, branch):
        """Logs in with DuckDB by name and token."""
        connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
        extensions = {
            "avro": duckdb_extension_avro,
            "httpfs": duckdb_extension_httpfs,
            "iceberg": duckdb_extension_iceberg,
        }
        for name, module in extensions.items():
            folder = pathlib.Path(module.__file__).parent / "extensions"
            file = next(folder.glob(f"v{duckdb.__version__}/**/{name}.duckdb_extension"))
            connection.execute(f"LOAD '{file}'")
        url = self.owner.url
        connection.execute(f"SET ca_cert_file = '{self.certificate}'")
        connection.execute(
            f"CREATE SECRET lake (TYPE iceberg, CLIENT_ID '{self.name}', CLIENT_SECRET '{self.token}', "
            f"OAUTH2_SERVER_URI '{url}/iceberg/v1/oauth/tokens')"
        )
        connection.execute(
            f"ATTACH '{branch}' AS lake (TYPE iceberg, ENDPOINT '{url}/iceberg', SECRET lake)"
        )
        return connection


def refused(error, text, work):
    """Checks that a call fails with this error, and that the message contains the text."""
    try:
        work()
    except error as found:
        assert text in str(found), found
        return
    raise AssertionError(f"not refused: {text}")


def claim_append(catalog):
    """Changes the client's requests, so that they declare each snapshot as an append."""
    send = catalog._session.send

    def forged(request, **options):
        if request.body and b"add-snapshot" in as_bytes(request.body):
            body = json.loads(request.body)
            for update in body["updates"]:
                if update["action"] == "add-snapshot":
                    update["snapshot"]["summary"]["operation"] = "append"
            request.prepare_body(json.dumps(body).encode(), None)
        return send(request, **options)

    catalog._session.send = forged


def as_bytes(body):
    """Returns a request's body as bytes."""
    return body.encode() if isinstance(body, str) else body


def reads(eve):
    """Reads with every client. Changes and reads of other tables must be rejected."""
    table = eve.catalog("main").load_table("shop.orders")
    assert table.scan().to_arrow().to_pylist() == [{"id": 1}]
    duck = eve.duck("main")
    assert duck.execute("SELECT id FROM lake.shop.orders").fetchall() == [(1,)]
    assert eve.client.query_rows("SELECT id FROM shop.orders") == [{"id": 1}]
    assert eve.catalog("main").list_namespaces() == [("shop",)]
    refused(ForbiddenError, "may not", lambda: eve.catalog("main").load_table("sales.orders"))
    for branch in ["main", "dev"]:
        there = eve.catalog(branch).load_table("shop.orders")
        refused(ForbiddenError, "may not", lambda table=there: table.append(ROW))
    refused(duckdb.Error, "may not", lambda: duck.execute("INSERT INTO lake.shop.orders VALUES (3)"))


def appends(ana):
    """Appends on its branch. Other changes and changes of other branches must be rejected."""
    table = ana.catalog("dev").load_table("shop.orders")
    table.append(ROW)
    duck = ana.duck("dev")
    duck.execute("INSERT INTO lake.shop.orders VALUES (3)")
    rows = ana.client.query_rows("SELECT id FROM shop.orders ORDER BY id", ref="dev")
    assert rows == [{"id": 1}, {"id": 2}, {"id": 3}], rows
    refused(duckdb.Error, "may not", lambda: duck.execute("DELETE FROM lake.shop.orders WHERE id = 1"))
    refused(
        ForbiddenError, "may not", lambda: ana.catalog("main").load_table("shop.orders").append(ROW)
    )
    catalog = ana.catalog("dev")
    table = catalog.load_table("shop.orders")
    refused(ForbiddenError, "may not", lambda: table.delete("id = 1"))
    refused(ForbiddenError, "may not", lambda: catalog.drop_table("shop.orders"))
    claim_append(catalog)
    refused(BadRequestError, "is an append but removes rows", lambda: table.delete("id = 1"))
    rows = ana.client.query_rows("SELECT count(*) AS n FROM shop.orders", ref="dev")
    assert rows == [{"n": 3}], rows


def changes(ben, foreign):
    """Makes every change within its namespace. Access to the files of other tables must be
    rejected."""
    catalog = ben.catalog("main")
    table = catalog.create_table("shop.returns", schema=ROW.schema)
    table.append(ROW)
    table.overwrite(pa.table({"id": pa.array([5, 6], pa.int64())}))
    table.delete("id = 5")
    with table.update_schema() as update:
        update.add_column("note", StringType())
    ben.duck("main").execute("INSERT INTO lake.shop.returns VALUES (7, 'late')")
    rows = ben.client.query_rows("SELECT id, note FROM shop.returns ORDER BY id")
    assert rows == [{"id": 6, "note": None}, {"id": 7, "note": "late"}], rows
    catalog.rename_table("shop.returns", "shop.refunds")
    table = catalog.create_table("shop.copy", schema=ROW.schema)
    refused(
        BadRequestError,
        "is not in the table's location",
        lambda: table.add_files([foreign], check_duplicate_files=False),
    )
    metadata = catalog.load_table("shop.refunds").metadata_location
    refused(ForbiddenError, "may not", lambda: catalog.register_table("shop.again", metadata))
    refused(ForbiddenError, "may not", lambda: catalog.create_namespace("other"))
    refused(ForbiddenError, "may not", lambda: ben.catalog("dev").create_table("shop.x", ROW.schema))
    catalog.drop_table("shop.copy")
    catalog.drop_table("shop.refunds")


def main():
    """Creates the users, and tests the rights of each."""
    url, token, certificate, warehouse, sdk, id_token = sys.argv[1:]
    sys.path.insert(0, sdk)
    import headwater

    # `requests` prefers this variable to the catalog's own setting.
    os.environ["REQUESTS_CA_BUNDLE"] = certificate

    owner = Owner(url, token, certificate)
    for sql in [
        "CREATE SCHEMA shop",
        "CREATE SCHEMA sales",
        "CREATE TABLE shop.orders AS SELECT CAST(1 AS BIGINT) AS id",
        "CREATE TABLE sales.orders AS SELECT CAST(9 AS BIGINT) AS id",
    ]:
        owner.sql(sql)
    owner.ask("/v1/branches", {"name": "dev"})
    users = {name: User(owner, name, certificate, headwater) for name in GRANTS}
    files = sorted(pathlib.Path(warehouse, "sales").glob("**/*.parquet"))
    reads(users["eve"])
    for sql in ["CREATE ROLE analyst", "GRANT SELECT ON NAMESPACE shop TO analyst"]:
        owner.sql(sql)
    owner.sql("GRANT READ ON BRANCH '*' TO analyst")
    reads(User(owner, "ana@example.com", certificate, headwater, id_token))
    appends(users["ana"])
    changes(users["ben"], files[0].as_uri())
    assert owner.sql("SELECT id FROM shop.orders") == [{"id": 1}]


if __name__ == "__main__":
    main()
