"""The files of a function without a project: a folder or a ZIP archive.

The command `headwater function deploy` sends the same files. Large functions are sent as an archive
in an upload, so that memory does not depend on their size.
"""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from base64 import b64encode
from typing import Any

from .errors import make
from .project import encode

# Folders that are not part of a function.
FOLDERS_LEFT_OUT = frozenset({"__pycache__"})

# Maximum size of files or of an archive that the request itself contains, in bytes.
REQUEST_BYTES_MAX = 32 << 20


def read_function(source: str | os.PathLike[str]) -> dict[str, Any] | io.BufferedReader:
    """Returns the files of a folder, except hidden ones, as `files`, or a ZIP archive as `archive`.

    For a large folder or archive, returns an open archive to upload. Raises `InvalidArgumentError`
    if the source does not exist, or if a file is a link.
    """
    root = os.fspath(source)
    try:
        if os.path.isdir(root):
            files = _list_folder(root)
            if sum(os.path.getsize(path) for path in files.values()) > REQUEST_BYTES_MAX:
                return _archive(files)
            return {"files": {name: encode(path, _read(path)) for name, path in files.items()}}
        if os.path.getsize(root) > REQUEST_BYTES_MAX:
            return open(root, "rb")
        return {"archive": b64encode(_read(root)).decode("ascii")}
    except OSError as error:
        message = f"`{error.filename or root}` cannot be read"
        hint = "Name a folder, or a ZIP archive."
        raise make("invalid_argument", message, hint, causes=[str(error)]) from error


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _archive(files: dict[str, str]) -> io.BufferedReader:
    """Writes files to a ZIP archive in an unnamed temporary file, and opens the archive."""
    with tempfile.TemporaryFile() as archive:
        with zipfile.ZipFile(archive, "w", strict_timestamps=False) as writer:
            for name, path in files.items():
                writer.write(path, name)
        archive.flush()
        archive.seek(0)
        return open(os.dup(archive.fileno()), "rb")


def _list_folder(root: str) -> dict[str, str]:
    """Returns the paths of the files in a folder, by their names below the folder."""
    files: dict[str, str] = {}
    left = [root]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in FOLDERS_LEFT_OUT:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                    continue
                if not entry.is_file(follow_symlinks=False):
                    message = f"`{entry.path}` is a link or a special file"
                    hint = "Replace the link with a copy of the file."
                    raise make("invalid_argument", message, hint)
                files[os.path.relpath(entry.path, root).replace(os.sep, "/")] = entry.path
    return dict(sorted(files.items()))
