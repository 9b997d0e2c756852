"""The files of a project that are sent to the server: the project file, SQL, Python, unit tests,
and the files that functions in other languages name.

The command line sends the same files, by the rules in `crates/executors/src/project_files.rs`.
Hidden files, virtual environments, installed packages, build results, folders called `data`, and
other projects within the folder are not sent. A function in another language can name such a folder
to send it. Symbolic links are not followed.
"""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .errors import HeadwaterError, make

PROJECT_FILE = "headwater.toml"

# Names of project files. The second and third are Bauplan's.
PROJECT_FILES = (PROJECT_FILE, "bauplan_project.yml", "bauplan_project.yaml")

# Maximum size of a project's files in bytes. The limit detects projects that contain data by
# mistake.
PROJECT_BYTES_MAX = 32 * 1024 * 1024

DEPTH_MAX = 8

# Names of folders that contain no code of the project itself.
FOLDERS_LEFT_OUT = frozenset(
    {"__pycache__", "node_modules", "site-packages", "venv", "build", "dist", "data"}
)

# Files that mark a folder as a virtual environment or a cache, which is not sent.
MARKS_LEFT_OUT = ("pyvenv.cfg", "CACHEDIR.TAG")

# Files that may contain the handler of a function with a runtime of AWS Lambda.
HANDLER_ENDINGS = (".js", ".mjs", ".cjs")
BOOTSTRAP = "bootstrap"

# The content of a file as the server receives it: text, or a dict with `base64` and `executable`.
FileContent = str | dict[str, Any]


def read_project(root: str | os.PathLike[str]) -> dict[str, FileContent]:
    """Returns the project's files by path, relative to its root and separated by `/`, sorted.

    Raises `FileNotFoundError` (of `headwater.errors`) for a folder without a project file, and
    `InvalidArgumentError` for an SQL or Python file that is not UTF-8 or for more than 32 MiB of
    files.
    """
    folder = os.fspath(root)
    if not _has_project_file(folder):
        hint = "Run `headwater init` to create a project, or give the folder of an existing one."
        raise make("file_not_found", f"no `{PROJECT_FILE}` in `{folder}`", hint)
    reader = _Reader(folder)
    reader.read(_code_files(folder, folder, 0))
    settings = reader.files.get(PROJECT_FILE)
    words, paths = named_paths(settings if isinstance(settings, str) else "")
    programs = [word for word in words if os.path.isfile(os.path.join(folder, word))]
    for path in [*programs, *paths]:
        reader.read(_named_files(folder, os.path.join(folder, path)))
    return dict(sorted(reader.files.items()))


class _Reader:
    """The files of a project that have been read so far."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.files: dict[str, FileContent] = {}
        self._size = 0

    def read(self, paths: Iterable[str]) -> None:
        """Reads files. Files that have been read before are skipped."""
        for path in paths:
            name = _relative(self.root, path)
            if name not in self.files:
                self.files[name] = self._read_file(path, name)

    def _read_file(self, path: str, name: str) -> FileContent:
        content = _read(path)
        self._size += len(content)
        if self._size > PROJECT_BYTES_MAX:
            hint = "Keep data outside the project; import it into tables."
            message = f"the project in `{self.root}` has more than 32 MiB of files"
            raise make("invalid_argument", message, hint)
        encoded = encode(path, content)
        if not isinstance(encoded, str) and _is_code_file(name):
            message = f"`{path}` is not UTF-8 text"
            raise make("invalid_argument", message, "Save the file as UTF-8.")
        return encoded


def encode(path: str, content: bytes) -> FileContent:
    """Returns the content of a file as the server receives it."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        executable = os.stat(path).st_mode & 0o111 != 0
        return {"base64": b64encode(content).decode("ascii"), "executable": executable}


def named_paths(project_file: str) -> tuple[list[str], list[str]]:
    """Returns the paths that the functions in a project file name, as two lists. The first list
    contains words of commands, some of which are files. The second contains files and folders.

    Returns no paths if the file has errors, because the server reports them.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    words: list[str] = []
    paths: list[str] = []
    try:
        settings = tomllib.loads(project_file)
        for function in settings.get("functions", {}).values():
            _add_paths(function, words, paths)
    except (AttributeError, TypeError, ValueError):
        return [], []
    return words, paths


def _add_paths(function: Mapping[str, Any], words: list[str], paths: list[str]) -> None:
    """Adds the paths that one function names. Raises an error for a setting of the wrong type."""
    words += _below_project(_texts(function.get("command", [])))
    paths += _below_project(_texts(function.get("files", [])))
    runtime, handler, folder = (function.get(name) for name in ("runtime", "handler", "folder"))
    _texts([text for text in (runtime, handler, folder) if text is not None])
    if folder is not None:
        paths += _below_project([folder])
    elif runtime is not None:
        module = _module(handler or "")
        words += _below_project([*(module + ending for ending in HANDLER_ENDINGS), BOOTSTRAP])


def _module(handler: str) -> str:
    """Returns a handler such as `src/app.handler` without its function; empty if it has no dot."""
    end = handler.find(".", handler.rfind("/") + 1)
    return handler[: max(end, 0)]


def _texts(values: list[Any]) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("not a list of strings")
    return values


def _below_project(paths: Iterable[str]) -> Iterator[str]:
    """Yields the paths that are below the project's folder, without `./` and trailing slashes."""
    for path in paths:
        while path.startswith("./"):
            path = path[2:]
        path = path.rstrip("/")
        if not any(part in ("", ".", "..") for part in path.split("/")):
            yield path


def _code_files(root: str, folder: str, depth: int) -> Iterator[str]:
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            if depth < DEPTH_MAX and _is_code_folder(entry):
                yield from _code_files(root, entry.path, depth + 1)
        elif entry.is_file(follow_symlinks=False) and _is_code_file(_relative(root, entry.path)):
            yield entry.path


def _named_files(root: str, path: str) -> list[str]:
    """Returns a file, or all files below a folder except hidden ones. Links are skipped. Returns no
    files if a symbolic link in the path points outside the project."""
    within = os.path.realpath(root)
    if os.path.commonpath([within, os.path.realpath(path)]) != within:
        return []
    found: list[str] = []
    left = [path]
    while left:
        path = left.pop()
        if os.path.islink(path):
            continue
        if os.path.isdir(path):
            left += [entry.path for entry in _entries(path) if not entry.name.startswith(".")]
        elif os.path.isfile(path):
            found.append(path)
    return found


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _has_project_file(folder: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, name)) for name in PROJECT_FILES)


def _is_code_folder(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    return not (
        name.startswith(".")
        or name in FOLDERS_LEFT_OUT
        or name.endswith(".egg-info")
        or _lossy(name) != name
        or any(os.path.exists(os.path.join(entry.path, mark)) for mark in MARKS_LEFT_OUT)
        or _has_project_file(entry.path)
    )


def _is_code_file(path: str) -> bool:
    """Returns True for the path of a project file, SQL or Python file or unit test."""
    name = path.rpartition("/")[2]
    if name.startswith("."):
        return False
    if path.startswith("tests/") and name.endswith((".yaml", ".yml")):
        return True
    return name.endswith((".sql", ".py")) or path in PROJECT_FILES


def _relative(root: str, path: str) -> str:
    return _lossy(os.path.relpath(path, root).replace(os.sep, "/"))


def _lossy(name: str) -> str:
    """Returns a file name with replacements for bytes that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(PROJECT_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> HeadwaterError:
    return make("storage", f"cannot read `{path}`", causes=[error.strerror or str(error)])
