"""The files of a function without a project: a folder or a ZIP archive.

The command `headwater function deploy` sends the same files.
"""

from __future__ import annotations

import os
from base64 import b64encode
from typing import Any

from .errors import make
from .project import FileContent, encode

# Folders that are not part of a function.
FOLDERS_LEFT_OUT = frozenset({"__pycache__"})

# Maximum size of an archive that is sent, in bytes.
ARCHIVE_BYTES_MAX = 44 << 20


def read_function(source: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the files of a folder, except hidden ones, as `files`, or a ZIP archive as `archive`.

    Raises `InvalidArgumentError` if the source does not exist, or if a file is a link.
    """
    root = os.fspath(source)
    try:
        if os.path.isdir(root):
            return {"files": dict(sorted(_read_folder(root).items()))}
        with open(root, "rb") as file:
            content = file.read(ARCHIVE_BYTES_MAX + 1)
    except OSError as error:
        message = f"`{error.filename or root}` cannot be read"
        hint = "Name the folder of the function, or a ZIP archive."
        raise make("invalid_argument", message, hint, causes=[str(error)]) from error
    if len(content) > ARCHIVE_BYTES_MAX:
        raise make("invalid_argument", f"the archive `{root}` has more than 44 MiB")
    return {"archive": b64encode(content).decode("ascii")}


def _read_folder(root: str) -> dict[str, FileContent]:
    files: dict[str, FileContent] = {}
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
                with open(entry.path, "rb") as file:
                    content = encode(entry.path, file.read())
                files[os.path.relpath(entry.path, root).replace(os.sep, "/")] = content
    return files
