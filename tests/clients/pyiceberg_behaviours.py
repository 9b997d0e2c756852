"""Runs PyIceberg's own catalog tests against Headwater's Iceberg REST catalog.

    pyiceberg_behaviours.py SDIST URL TOKEN WAREHOUSE

SDIST is PyIceberg's source archive. Its `tests/catalog/test_catalog_behaviors.py` runs unchanged,
but fixtures of this module replace the fixtures for catalogs, folders and names in PyIceberg's
`conftest.py`. The tests of views in `tests/integration` (`test_catalog.py` and
`test_rest_catalog.py`) run in the same way. Each test has its own branch, without the namespace
`public`. `DIFFERENT` lists the tests that cannot pass, with the reasons. It is an error if one of
them passes, or if another test fails.

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

# The reasons of tests that cannot pass, by the beginning of the tests' names.
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
    """Sends a request to Headwater's HTTP API."""
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
    """Returns a name that no other test uses."""
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


def new_catalog():
    """Creates a branch and returns its catalog."""
    branch = new_name("behaviour")
    ask("POST", "/v1/branches", {"name": branch})
    ask("DELETE", f"/v1/branches/{branch}/namespaces/public")
    uri = f"{os.environ['HEADWATER_URL']}/iceberg/{branch}"
    token = os.environ["HEADWATER_TOKEN"]
    return load_catalog("test_catalog", type="rest", uri=uri, token=token)


@pytest.fixture
def catalog():
    """Replaces a fixture of PyIceberg's tests."""
    return new_catalog()


@pytest.fixture
def rest_catalog():
    """Replaces a fixture of PyIceberg's tests."""
    return new_catalog()


@pytest.fixture
def session_catalog():
    """Replaces a fixture of PyIceberg's tests."""
    return new_catalog()


@pytest.fixture
def view_name():
    """Returns a name for a view."""
    return new_name("my_iceberg_view")


@pytest.fixture
def catalog_with_warehouse():
    """Replaces a fixture of PyIceberg's tests."""
    return new_catalog()


def new_folder():
    """Creates a folder in the warehouse."""
    folder = pathlib.Path(os.environ["HEADWATER_WAREHOUSE"]) / "given" / uuid.uuid4().hex
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def tmp_path():
    """Returns a folder in the warehouse, because Headwater accepts only locations in the
    warehouse."""
    return new_folder()


@pytest.fixture
def warehouse():
    """Returns the folder of the warehouse."""
    return pathlib.Path(os.environ["HEADWATER_WAREHOUSE"])


@pytest.fixture
def metadata_location():
    """Returns the location of a metadata file in the warehouse. PyIceberg's own fixture returns a
    location in S3."""
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
        # Replace the fixtures that these test files define themselves. The files also import
        # PyIceberg's Hive catalog, whose packages are not installed, so define an empty module.
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
