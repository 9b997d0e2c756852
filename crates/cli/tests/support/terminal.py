"""Runs a command in a pseudo-terminal: COLUMNS TYPED COMMAND…; prints its output and exits with its code.

TYPED is a JSON list of pairs: types the second text once the command has written the first one,
after the output that the pair before waited for.
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios

# The maximum seconds without output; the command is then killed.
PATIENCE = 60


def main():
    columns, typed, command = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    child, terminal = pty.fork()
    if child == 0:
        size = struct.pack("HHHH", 50, columns, 0, 0)
        fcntl.ioctl(0, termios.TIOCSWINSZ, size)
        os.execvp(command[0], command)
    written = b""
    while True:
        if not select.select([terminal], [], [], PATIENCE)[0]:
            os.kill(child, signal.SIGKILL)
        try:
            text = os.read(terminal, 65536)
        except OSError:
            # Linux: the other end is closed.
            break
        if not text:
            break
        os.write(1, text)
        written += text
        while typed and (at := written.find(typed[0][0].encode())) >= 0:
            awaited, keys = typed.pop(0)
            written = written[at + len(awaited.encode()) :]
            os.write(terminal, keys.encode())
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


main()
