"""Python functions in the form of AWS Lambda: `def handler(event, context)`, which may be `async`."""

import importlib
import os
import sys

from .lambda_context import Context, variables


class Handler:
    """A handler, written as `app.handler`: a function in a module of the function's folder.

    Packages of the function are imported in the zygote, the module at the first call of a process.
    """

    #: Where a missing package is added, in hints.
    packages_setting = "`packages` of the function in `headwater.toml`"

    def __init__(self, handler, folder="."):
        self._handler = handler
        self._folder = folder
        self._function = None
        self._context = None
        self._loop = None

    def begin_call(self, call, _report):
        """Prepares the next call."""
        os.chdir(self._folder)
        self._context = Context(call)
        if self._function is None:
            os.environ.update(variables(call, os.getcwd(), self._handler))

    def __call__(self, event=None):
        if self._function is None:
            self._function = self._import()
        returned = self._function(event, self._context)
        return self._await(returned) if hasattr(returned, "__await__") else returned

    def _import(self):
        path, _, name = self._handler.rpartition(".")
        sys.path.insert(0, os.getcwd())
        module = importlib.import_module(path.replace("/", "."))
        found = getattr(module, name, None)
        if not callable(found):
            raise AttributeError(f"`{path.replace('.', '/')}.py` has no function `{name}`")
        return found

    def _await(self, awaitable):
        # One loop for all calls of a process, because a client in a global variable belongs to the
        # loop that created it.
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(_result(awaitable))


async def _result(awaitable):
    return await awaitable
