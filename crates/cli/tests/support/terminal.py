"""Runs a command in a pseudo-terminal. Prints the command's output and exits with its exit code.

Arguments: COLUMNS TYPED COMMAND…

TYPED is a JSON list of pairs of texts. For each pair, the script waits until the command has
written the first text, and then types the second text. The output that one pair waited for does not
count for the next pair.
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

# Maximum seconds without output, after which the command is killed.
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
            # Linux returns an error if the other end is closed.
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
