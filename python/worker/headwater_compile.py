"""Compiles the modules of installed packages, and keeps the bytecode for other environments.

Arguments: pairs of a package's RECORD file and the folder for the package's bytecode. Python does
not compare the bytecode with its source, because an environment's folder never changes. The
environment's folder can be removed at any time; the bytecode of a partly compiled package is then
discarded.

An environment finds stored bytecode by the content of a package's RECORD. A package whose RECORD
does not match its files is not compiled, because other environments would use its bytecode for the
genuine package with this RECORD.
"""

import base64
import csv
import glob
import hashlib
import importlib.util
import os
import py_compile
import shutil
import sys
import tempfile
import time

ABANDONED_SECONDS = 24 * 60 * 60

UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


class RecordMismatch(Exception):
    """A RECORD does not match its files."""


def sources(record):
    """Yields the paths of the modules that a RECORD lists with a digest, except test suites. The
    paths are relative to the packages' folder. Raises `RecordMismatch` if a digest does not match."""
    packages = os.path.realpath(os.path.dirname(os.path.dirname(record)))
    with open(record, encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            path, digest = row[:2] if len(row) > 1 else ("", "")
            if not path.endswith(".py") or not digest.startswith("sha256="):
                continue
            place = os.path.join(packages, path)
            inside = place.startswith(packages + "/") and place == os.path.realpath(place)
            if inside and not {"tests", "test"} & set(path.split("/")):
                if digest_of(place) != digest:
                    raise RecordMismatch(path)
                yield path


def digest_of(path):
    """Returns a file's digest in the format of RECORD."""
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def compile_package(record, stored):
    """Compiles one package in the environment, and links the bytecode into a folder that is created
    atomically."""
    packages = os.path.dirname(os.path.dirname(record))
    for abandoned in glob.glob(f"{stored}.*"):
        # Another process may be compiling the same package.
        try:
            old = time.time() - os.stat(abandoned).st_mtime > ABANDONED_SECONDS
        except OSError:
            continue
        if old:
            shutil.rmtree(abandoned, ignore_errors=True)
    try:
        listed = list(sources(record))
    except (RecordMismatch, OSError):
        return
    aside = tempfile.mkdtemp(prefix=os.path.basename(stored) + ".", dir=os.path.dirname(stored))
    os.chmod(aside, 0o755)
    for source in listed:
        compiled = importlib.util.cache_from_source(source)
        try:
            py_compile.compile(
                os.path.join(packages, source),
                cfile=os.path.join(packages, compiled),
                doraise=True,
                invalidation_mode=UNCHECKED,
            )
            target = os.path.join(aside, compiled)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.link(os.path.join(packages, compiled), target)
        except (py_compile.PyCompileError, OSError):
            continue  # Ignore templates and code for other Python versions.
    try:
        os.stat(record)
        os.rename(aside, stored)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)


def main(arguments):
    for record, stored in zip(arguments[::2], arguments[1::2]):
        os.makedirs(os.path.dirname(stored), exist_ok=True)
        compile_package(record, stored)


if __name__ == "__main__":
    main(sys.argv[1:])
