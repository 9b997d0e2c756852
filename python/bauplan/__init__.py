"""The names that the functions of projects written for Bauplan import.

Every sandbox has this package; the wheel does not contain it. Headwater reads the decorators,
inputs and schemas from the source of a project, without running the source. The definitions in this
package only make the project's modules importable, and leave each function callable.
"""

from .inputs import Model, Parameter
from .schema import (
    UTC,
    Any,
    Binary,
    Bool,
    Date32,
    Date64,
    Float64,
    Int32,
    Int64,
    String,
    TableField,
    TableSchema,
    TimestampMicro,
    TimestampMicroUTC,
    TimestampNano,
    TimestampNanoUTC,
)

__all__ = [
    "UTC",
    "Any",
    "Binary",
    "Bool",
    "Client",
    "Date32",
    "Date64",
    "Float64",
    "Int32",
    "Int64",
    "Model",
    "Parameter",
    "String",
    "TableField",
    "TableSchema",
    "TimestampMicro",
    "TimestampMicroUTC",
    "TimestampNano",
    "TimestampNanoUTC",
    "expectation",
    "model",
    "python",
    "resources",
    "standard_expectations",
]


def model(name=None, **settings):
    """Marks a function as a model."""
    return _unchanged


def expectation(name=None, **settings):
    """Marks a function as an expectation."""
    return _unchanged


def python(version=None, pip=None):
    """Sets the Python version and the packages of a function."""
    return _unchanged


def resources(cpus=None, memory=None, memory_swap=None, timeout=None):
    """Sets the limits of a function."""
    return _unchanged


def _unchanged(function):
    return function


class Client:
    """Bauplan's client. Functions cannot use it: creating a client raises an error."""

    def __init__(self, *arguments, **settings):
        raise NotImplementedError(
            "`bauplan.Client` is not available in a function; declare its tables as inputs with"
            " `bauplan.Model`, or use `headwater.Client` outside of the project"
        )


def __getattr__(name):
    if name == "standard_expectations":
        from importlib import import_module

        return import_module("bauplan.standard_expectations")
    raise AttributeError(f"module `bauplan` has no attribute `{name}` in Headwater")
