"""Runs a command in a pseudo-terminal: COLUMNS STOP_AT COMMAND…; prints what it wrote and ends as it ended.

Presses Ctrl-C once the command has written STOP_AT, where that is not empty.
"""

import fcntl
import os
import pty
import struct
import sys
import termios


def main():
    columns, stop_at, command = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3:]
    child, terminal = pty.fork()
    if child == 0:
        size = struct.pack("HHHH", 50, columns, 0, 0)
        fcntl.ioctl(0, termios.TIOCSWINSZ, size)
        os.execvp(command[0], command)
    written = b""
    while True:
        try:
            text = os.read(terminal, 65536)
        except OSError:
            # Linux: the other end is closed.
            break
        if not text:
            break
        os.write(1, text)
        written += text
        if stop_at and stop_at in written:
            os.write(terminal, b"\x03")
            stop_at = b""
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


main()
