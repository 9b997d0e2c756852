"""Headwater: models and expectations for projects, and a client for lakes.

A project's functions are marked with `model`, `python`, `expectation` and `function`; their inputs are default
arguments, `Model` and `Parameter`. A program talks to a lake through `Client`.

This module is imported before every function that runs, so it imports nothing by itself: the client,
the errors and the ready-made expectations are loaded when they are first used.
"""

from .decorators import expectation, function, model, python
from .markers import Model, Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import errors, expectations
    from .client import Client
    from .errors import HeadwaterError

__version__ = "0.1.0"

__all__ = [
    "Client",
    "HeadwaterError",
    "Model",
    "Parameter",
    "errors",
    "expectation",
    "expectations",
    "function",
    "model",
    "python",
]

# Where each name that is loaded late comes from; None stands for the module itself.
_LATE = {
    "Client": ("client", "Client"),
    "HeadwaterError": ("errors", "HeadwaterError"),
    "errors": ("errors", None),
    "expectations": ("expectations", None),
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module `headwater` has no attribute `{name}`")
    from importlib import import_module

    module_name, attribute = _LATE[name]
    module = import_module(f"{__name__}.{module_name}")
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
