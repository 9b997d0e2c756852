"""Python functions in the form of AWS Lambda: `def handler(event, context)`, which may be `async`."""

from __future__ import annotations

import importlib
import os
import sys
from types import GeneratorType, ModuleType

from .lambda_answers import answer_of
from .lambda_context import Context, variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from typing import Any


class Handler:
    """A handler, written as `app.handler`: a function in a module of the function's folder.

    The zygote imports the packages of the function. Each process imports the module at its first
    call.
    """

    def __init__(self, handler: str, folder: str = ".") -> None:
        self._handler = handler
        self._folder = folder
        self._function: Callable[..., Any] | None = None
        self._context: Context | None = None
        self._loop: AbstractEventLoop | None = None

    def begin_call(self, call: dict[str, Any], _server: object) -> None:
        """Prepares the next call."""
        if self._folder != ".":
            os.chdir(self._folder)
        self._context = Context(call)
        if self._function is None:
            os.environ.update(variables(call, os.getcwd(), self._handler))

    def prepare_call(self, call: dict[str, Any], server: object) -> None:
        """Imports the handler's module ahead of the first call."""
        self.begin_call(call, server)
        self._function = self._import()

    def __call__(self, event: Any = None) -> Any:
        if self._function is None:
            self._function = self._import()
        returned = self._function(event, self._context)
        if hasattr(returned, "__await__"):
            returned = self._await(returned)
        if hasattr(returned, "__anext__"):
            returned = self._pieces(returned)
        return answer_of(returned) if isinstance(returned, GeneratorType) else returned

    def _pieces(self, pieces: AsyncIterator[Any]) -> Iterator[Any]:
        """Iterates over an asynchronous generator."""
        while True:
            try:
                yield self._await(anext(pieces))
            except StopAsyncIteration:
                return

    def _import(self) -> Callable[..., Any]:
        path, _, name = self._handler.rpartition(".")
        folder = os.getcwd()
        sys.path.insert(0, folder)
        module = import_module(folder, path.replace("/", "."))
        found: Callable[..., Any] | None = getattr(module, name, None)
        if not callable(found):
            raise AttributeError(f"`{path.replace('.', '/')}.py` has no function `{name}`")
        return found

    def unfit(self, returned: str, reason: str | None) -> MarshalError:
        """Returns the exception for a returned value that cannot be sent. The exception names the
        value's type and the reason."""
        why = reason or "not supported"
        return MarshalError(f"cannot marshal the response of `{self._handler}` (`{returned}`): {why}")

    def _await(self, awaitable: Awaitable[Any]) -> Any:
        # Use one event loop for all calls of a process. A client in a global variable works only in
        # the loop in which it was created.
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(_result(awaitable))


class MarshalError(Exception):
    """The response of a handler is not JSON."""

    headwater_name = "Runtime.MarshalError"


#: The package into which a handler's module is imported if its name is already in use.
PACKAGE = "_headwater_handler"


def import_module(folder: str, name: str) -> ModuleType:
    """Imports a module from the function's folder or from its packages.

    A module can have the name of a loaded module or of a module of the standard library, such as
    `json.py`. Such a module is then imported as a part of the package `PACKAGE`, because Python
    would return the other module.
    """
    path = os.path.join(folder, *name.split("."))
    outermost = name.partition(".")[0]
    is_taken = outermost in sys.modules or outermost in sys.stdlib_module_names
    if not is_taken or not any(map(os.path.isfile, [f"{path}.py", f"{path}/__init__.py"])):
        return importlib.import_module(name)
    package = sys.modules[PACKAGE] = ModuleType(PACKAGE)
    package.__path__ = [os.path.dirname(path)]
    return importlib.import_module(f"{PACKAGE}.{os.path.basename(path)}")


async def _result(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
