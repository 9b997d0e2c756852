"""Functions that are programs. A program reads the event from standard input and writes the result
to standard output."""

from __future__ import annotations

import collections
import json
import os
import selectors
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: Maximum size of a result in bytes.
RESULT_BYTES_MAX = 64 << 20

#: Maximum lines of standard error in an error message.
LINES_SHOWN = 5

_CHUNK_BYTES = 1 << 16

#: Seconds between checks whether the program has ended. The end of its output cannot show this,
#: because processes that the program has started can keep the output open.
_CHECK_SECONDS = 0.1


class CommandFailed(Exception):
    """A program could not be started, failed, or returned an unusable result."""


def run(command: Sequence[str], event: object = None) -> Any:
    """Runs a program with an event as JSON on its standard input.

    Returns the program's standard output: parsed if it is JSON, otherwise as text; None if it is
    empty. Lines of standard error become log lines. Raises `CommandFailed` for an exit status other
    than 0.
    """
    shown = " ".join(command)
    pipe = subprocess.PIPE
    with start(command, stdin=pipe, stdout=pipe, stderr=pipe) as program:
        try:
            result, lines = _communicate(program, json.dumps(event).encode(), shown)
            status = program.wait()
        except BaseException:
            program.kill()
            raise
    if status == 0:
        return _decoded(bytes(result), shown)
    raise CommandFailed("\n".join([f"`{shown}` {ended(status)}", *lines]))


def ended(status: int) -> str:
    """Describes the end of a program: its exit status, or the signal that ended it."""
    return f"exited with status {status}" if status >= 0 else f"was ended by signal {-status}"


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Starts a program. Raises `CommandFailed` if the program cannot be started."""
    try:
        return subprocess.Popen(command, bufsize=0, **options)
    except FileNotFoundError:
        reason = "the sandbox has no such program"
    except PermissionError:
        reason = "the program is not executable: begin a script with `#!` and its interpreter"
    except OSError as error:
        reason = error.strerror or str(error)
    raise CommandFailed(f"`{command[0]}` cannot be started: {reason}")


def _communicate(
    program: subprocess.Popen[bytes], event: bytes, shown: str
) -> tuple[bytearray, list[str]]:
    """Writes the event, and reads standard output and standard error. Returns the result and the
    last log lines."""
    stdin, stdout, stderr = program.stdin, program.stdout, program.stderr
    assert stdin is not None and stdout is not None and stderr is not None
    result, lines = bytearray(), collections.deque[bytes](maxlen=LINES_SHOWN)
    unsent, line = memoryview(event), b""
    os.set_blocking(stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(stdin, selectors.EVENT_WRITE)
        selector.register(stdout, selectors.EVENT_READ)
        selector.register(stderr, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(_CHECK_SECONDS)
            if not ready and program.poll() is not None:
                break
            for key, _ in ready:
                if key.fileobj is stdin:
                    unsent = _write(key.fd, unsent)
                    if not unsent:
                        selector.unregister(stdin)
                        stdin.close()
                    continue
                chunk = os.read(key.fd, _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is stdout:
                    result += chunk
                    if len(result) > RESULT_BYTES_MAX:
                        most = RESULT_BYTES_MAX >> 20
                        raise CommandFailed(f"`{shown}` returned more than {most} MiB")
                else:
                    os.write(2, chunk)
                    *complete, line = (line + chunk)[-_CHUNK_BYTES:].split(b"\n")
                    lines.extend(complete)
    lines.append(line)
    return result, [line.decode(errors="replace") for line in lines if line.strip()]


def _write(descriptor: int, unsent: memoryview) -> memoryview:
    """Writes a part of the event. Returns the rest, which is empty if the program has closed its
    input."""
    try:
        return unsent[os.write(descriptor, unsent[:_CHUNK_BYTES]) :]
    except BrokenPipeError:
        return unsent[:0]


def _decoded(result: bytes, shown: str) -> Any:
    try:
        text = result.decode()
    except UnicodeDecodeError:
        raise CommandFailed(f"`{shown}` returned bytes that are not UTF-8 text") from None
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
