"""Inputs of a function, written as default arguments or in `Annotated`."""


class _Marker:
    """The base of inputs. Equality and text representation depend on the arguments."""

    def __eq__(self, other):
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self):
        return hash((type(self), self.name))

    def __repr__(self):
        return f"{type(self).__name__}({self.name!r})"


class Model(_Marker):
    """A table: another model's output, or a table of the lake.

    A project with a connector is rejected before its functions run, so connectors have no effect.
    """

    def __init__(
        self,
        name,
        columns=None,
        filter=None,
        ref=None,
        connector=None,
        connector_config_key=None,
        connector_config_uri=None,
        projection_schema=None,
    ):
        self.name = name
        self.columns = columns
        self.filter = filter
        self.ref = ref
        self.projection_schema = projection_schema


class Parameter(_Marker):
    """A parameter of the run."""

    def __init__(self, name):
        self.name = name
