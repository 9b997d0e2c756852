"""Malicious wheels. Each function writes a wheel into the folder of its first argument."""

import base64
import hashlib
import os
import stat
import sys
import zipfile

FILE = stat.S_IFREG | 0o644
LINK = stat.S_IFLNK | 0o777


def line(name, content):
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}"


def wheel(folder, name, entries):
    """Writes a wheel with these files. A link is (path, target, LINK)."""
    info = f"{name}-1.0.dist-info"
    own = [
        (f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", FILE),
        (f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n", FILE),
    ]
    entries = [(path, text.encode(), mode) for path, text, mode in [*entries, *own]]
    record = [line(path, content) for path, content, _ in entries] + [f"{info}/RECORD,,"]
    entries.append((f"{info}/RECORD", "\n".join(record).encode() + b"\n", FILE))
    with zipfile.ZipFile(os.path.join(folder, f"{name}-1.0-py3-none-any.whl"), "w") as file:
        for path, content, mode in entries:
            entry = zipfile.ZipInfo(path)
            entry.create_system, entry.external_attr = 3, mode << 16
            file.writestr(entry, content)


def climber(folder, mark):
    """Writes a wheel with files above the folder of the package, and at absolute paths of the
    host."""
    out = [("../" * depth + mark, "out", FILE) for depth in range(1, 9)]
    data = "headwater_climber-1.0.data/data/"
    out += [(data + "../" * depth + mark, "out", FILE) for depth in range(3, 9)]
    out += [(f"/tmp/{mark}", "out", FILE), (f"{folder}/{mark}", "out", FILE)]
    wheel(folder, "headwater_climber", [("headwater_climber.py", "HERE = True\n", FILE), *out])


def linker(folder, secret):
    """Writes wheels with links to paths outside of the package, and with a file whose path leads
    through such a link."""
    links = [
        ("headwater_linker/secret.txt", secret, LINK),
        ("headwater_linker/up.txt", "../" * 12 + secret.lstrip("/"), LINK),
        ("headwater_linker/folder", os.path.dirname(secret), LINK),
        ("headwater_linker/root", "/", LINK),
    ]
    files = [("headwater_linker/__init__.py", "HERE = True\n", FILE)]
    through = [("headwater_linker/folder/through.txt", "out", FILE)]
    wheel(folder, "headwater_linker", [*files, *links])
    wheel(folder, "headwater_through", [("headwater_through.py", "", FILE), *links, *through])


def trap(folder, code):
    """Writes a wheel with code that runs at the start of every Python that has the package
    installed."""
    files = [
        ("headwater_trap.py", "HERE = True\n", FILE),
        ("headwater_trap_code.py", code, FILE),
        ("headwater_trap.pth", "import headwater_trap_code\n", FILE),
    ]
    wheel(folder, "headwater_trap", files)


def honest(folder):
    wheel(folder, "headwater_honest", [("headwater_honest.py", "SAID = 'honest'\n", FILE)])


def squatter(folder):
    """Writes a wheel with a file that also belongs to another package."""
    files = [("headwater_squatter.py", "", FILE), ("headwater_honest.py", "SAID = 'squats'\n", FILE)]
    wheel(folder, "headwater_squatter", files)


def liar(folder, record):
    """Writes a wheel with a changed module of another package, and with the original RECORD of that
    package."""
    files = [
        ("headwater_liar.py", "HERE = True\n", FILE),
        ("headwater_honest.py", "SAID = 'lies'\n", FILE),
        ("headwater_liar_notes/RECORD", record, FILE),
        ("headwater_liar-1.0.data/purelib/headwater_honest-1.0.dist-info/RECORD", record, FILE),
    ]
    wheel(folder, "headwater_liar", files)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
