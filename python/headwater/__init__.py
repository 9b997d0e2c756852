"""Headwater: decorators for models and expectations, and a client for lakes.

The decorators `model`, `python`, `expectation` and `function` mark a project's functions. The
default arguments `Model` and `Parameter` are the inputs of these functions. Programs use `Client`.

Every function imports this module first, so the module loads the client, the errors and the
expectations only on first use.
"""

from .decorators import expectation, function, model, python
from .markers import Model, Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import errors, expectations, lake
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
    "lake",
    "model",
    "python",
]

# The module and the attribute of each lazily loaded name. The attribute None means the module
# itself.
_LATE = {
    "Client": ("client", "Client"),
    "HeadwaterError": ("errors", "HeadwaterError"),
    "errors": ("errors", None),
    "expectations": ("expectations", None),
    "lake": ("lake", None),
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
