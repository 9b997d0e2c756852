"""The files of a project that are sent to the server: the project file, SQL, Python and unit tests.

The command line sends the same files. Hidden files and folders, `data`, `__pycache__`,
`node_modules`, virtual environments and folders with another project are not sent. Symbolic links
are not followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from .errors import HeadwaterError, make

PROJECT_FILE = "headwater.toml"

# Names of project files. The second and third are Bauplan's.
PROJECT_FILES = (PROJECT_FILE, "bauplan_project.yml", "bauplan_project.yaml")

# Maximum size of a project's code in bytes. A project should not contain data.
PROJECT_BYTES_MAX = 32 * 1024 * 1024

DEPTH_MAX = 8

FOLDERS_LEFT_OUT = frozenset({"__pycache__", "node_modules", "venv", "data"})


def read_project(root: str | os.PathLike[str]) -> dict[str, str]:
    """Returns the project's files by path, relative to its root and separated by `/`, sorted.

    Raises `FileNotFoundError` (of `headwater.errors`) for a folder without a project file, and
    `InvalidArgumentError` for a file that is not UTF-8 or for more than 32 MiB of code.
    """
    folder = os.fspath(root)
    if not any(os.path.isfile(os.path.join(folder, name)) for name in PROJECT_FILES):
        hint = "Run `headwater init` to create a project, or give the folder of an existing one."
        raise make("file_not_found", f"no `{PROJECT_FILE}` in `{folder}`", hint)
    files: dict[str, str] = {}
    size = 0
    for path in _code_files(folder, 0):
        content = _read(path)
        size += len(content)
        if size > PROJECT_BYTES_MAX:
            hint = "Keep data outside the project; import it into tables."
            message = f"the project in `{folder}` has more than 32 MiB of code files"
            raise make("invalid_argument", message, hint)
        files[os.path.relpath(path, folder).replace(os.sep, "/")] = _decode(path, content)
    return dict(sorted(files.items()))


def _code_files(folder: str, depth: int, tests: bool = False) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError as error:
        raise _unreadable(folder, error) from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth < DEPTH_MAX and _is_code_folder(entry):
                inner = tests or (depth == 0 and entry.name == "tests")
                yield from _code_files(entry.path, depth + 1, inner)
        elif entry.is_file(follow_symlinks=False) and _is_code_file(entry.name, depth, tests):
            yield entry.path


def _is_code_folder(entry: os.DirEntry[str]) -> bool:
    marks = ("pyvenv.cfg", *PROJECT_FILES)
    marked = any(os.path.exists(os.path.join(entry.path, mark)) for mark in marks)
    return entry.name not in FOLDERS_LEFT_OUT and not marked


def _is_code_file(name: str, depth: int, tests: bool) -> bool:
    if tests and name.endswith((".yaml", ".yml")):
        return True
    return name.endswith((".sql", ".py")) or (depth == 0 and name in PROJECT_FILES)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(PROJECT_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(path, error) from error


def _decode(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"`{path}` is not UTF-8 text"
        raise make("invalid_argument", message, "Save the file as UTF-8.") from error


def _unreadable(path: str, error: OSError) -> HeadwaterError:
    return make("storage", f"cannot read `{path}`", causes=[error.strerror or str(error)])
