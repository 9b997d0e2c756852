"""Runs PyIceberg's own tests of what a catalog does against Headwater's Iceberg REST catalog.

    pyiceberg_behaviours.py SDIST URL TOKEN WAREHOUSE

SDIST is PyIceberg's source archive, whose `tests/catalog/test_catalog_behaviors.py` is run as it is; only
where its catalogs, its folders and its names come from is put in place of what its `conftest.py` says.
So are its tests of views, which are among those that ask for servers of their own
(`tests/integration/test_catalog.py` and `test_rest_catalog.py`). Each test works on a
branch of its own, without the namespace `public`. Tests that cannot pass are listed in `DIFFERENT` with the reason; one of them that passes, and any
other that fails, is an error.

Needs: pyiceberg[pyarrow], pyiceberg-core, pytest, pytest-lazy-fixtures, sqlalchemy, boto3, moto, fsspec.
"""

import json
import os
import pathlib
import sys
import tarfile
import tempfile
import types
import urllib.request
import uuid

import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

OTHER_CATALOG = "asks PyIceberg's SQL catalog for something that no REST catalog has"
NO_NAME = "a name that is none is a bad request, and not a namespace that is missing"

BEHAVIOURS = "/tests/catalog/test_catalog_behaviors.py"

# The tests of views, by file.
VIEWS = [
    ("/tests/integration/test_catalog.py", ["test_rest_list_views", "test_rest_create_view", "test_rest_drop_view"]),
    ("/tests/integration/test_rest_catalog.py", ["test_load_view", "test_load_view_with_table_ident"]),
]

# Tests that cannot pass, by the beginning of their name.
DIFFERENT = {
    "test_create_table_without_namespace": "PyIceberg's REST client itself asks for a namespace",
    "test_create_tables_idempotency": OTHER_CATALOG,
    "test_commit_table": OTHER_CATALOG,
    "test_load_empty_namespace_properties": OTHER_CATALOG,
    "test_create_namespace_with_null_properties": OTHER_CATALOG,
    "test_create_namespace_with_empty_identifier[0]": NO_NAME,
    "test_create_namespace_with_empty_identifier[1]": NO_NAME,
    "test_create_namespace_with_empty_identifier[ ": NO_NAME,
    "test_create_namespace_with_empty_identifier[empty_namespace3]": NO_NAME,
    "test_register_table": "all but its last line: it takes a location for a path, and locations are URLs",
    "test_catalog_commit_table_applies_schema_updates": "a schema with the id of another gets the next id",
    "test_table_writes_metadata_to_custom_location": "metadata files lie with their table",
}


def ask(method, path, body=None):
    """Asks Headwater's own API."""
    request = urllib.request.Request(
        os.environ["HEADWATER_URL"] + path,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={
            "authorization": f"Bearer {os.environ['HEADWATER_TOKEN']}",
            "content-type": "application/json",
        },
    )
    with urllib.request.urlopen(request) as response:
        response.read()


def new_name(prefix):
    """A name that no other test has."""
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


def new_catalog():
    """A catalog of a branch of its own."""
    branch = new_name("behaviour")
    ask("POST", "/v1/branches", {"name": branch})
    ask("DELETE", f"/v1/branches/{branch}/namespaces/public")
    uri = f"{os.environ['HEADWATER_URL']}/iceberg/{branch}"
    token = os.environ["HEADWATER_TOKEN"]
    return load_catalog("test_catalog", type="rest", uri=uri, token=token)


@pytest.fixture
def catalog():
    """In place of PyIceberg's own catalogs."""
    return new_catalog()


@pytest.fixture
def rest_catalog():
    """In place of PyIceberg's own catalogs."""
    return new_catalog()


@pytest.fixture
def session_catalog():
    """In place of PyIceberg's own catalogs."""
    return new_catalog()


@pytest.fixture
def view_name():
    """A view's name."""
    return new_name("my_iceberg_view")


@pytest.fixture
def catalog_with_warehouse():
    """In place of PyIceberg's own catalogs."""
    return new_catalog()


def new_folder():
    """A folder in the warehouse."""
    folder = pathlib.Path(os.environ["HEADWATER_WAREHOUSE"]) / "given" / uuid.uuid4().hex
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def tmp_path():
    """Locations that tests give lie in the warehouse."""
    return new_folder()


@pytest.fixture
def warehouse():
    """What lies below is the warehouse."""
    return pathlib.Path(os.environ["HEADWATER_WAREHOUSE"])


@pytest.fixture
def metadata_location():
    """A metadata file in the warehouse; PyIceberg's own names files in S3."""
    other = new_catalog()
    other.create_namespace("left")
    schema = Schema(NestedField(1, "id", LongType(), required=False))
    return other.create_table("left.behind", schema).metadata_location


def pytest_collection_modifyitems(items):
    """Marks the tests that cannot pass."""
    for item in items:
        for name, reason in DIFFERENT.items():
            if item.name.startswith(name):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def main():
    """Runs the tests."""
    archive, url, token, warehouse = sys.argv[1:]
    os.environ.update(HEADWATER_URL=url, HEADWATER_TOKEN=token, HEADWATER_WAREHOUSE=warehouse)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as source:
            wanted = ("/tests/__init__.py", "/tests/conftest.py", BEHAVIOURS, *(file for file, _ in VIEWS))
            source.extractall(folder, [m for m in source if m.name.endswith(wanted)], filter="data")
        root = next(pathlib.Path(folder).iterdir())
        with open(root / "tests/conftest.py", "a", encoding="utf-8") as conftest:
            conftest.write("\nfrom pyiceberg_behaviours import *\n")
        # The fixtures of PyIceberg's own tests would override ours. The tests import the client of
        # Hive, which is not installed.
        for file, _ in VIEWS:
            with open(f"{root}{file}", "a", encoding="utf-8") as module:
                module.write("\nfrom pyiceberg_behaviours import rest_catalog, session_catalog\n")
        hive = types.ModuleType("pyiceberg.catalog.hive")
        hive.HiveCatalog = type("HiveCatalog", (), {})
        sys.modules[hive.__name__] = hive
        sys.path[:0] = [str(pathlib.Path(__file__).parent), str(root)]
        os.chdir(root)
        options = ["-q", "-rx", "-p", "no:cacheprovider", "--no-header", "--tb=short", "--rootdir=."]
        views = [f"{file[1:]}::{test}" for file, tests in VIEWS for test in tests]
        return pytest.main([*options, BEHAVIOURS[1:], *views])


if __name__ == "__main__":
    sys.exit(main())
