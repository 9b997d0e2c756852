"""Writes the jar of libraries that Spark needs to read Iceberg tables.

    spark_jars.py FOLDER

Iceberg's runtime jar on PyPI lacks two libraries, which it expects in its own packages below
`org.apache.iceberg.shaded`: Jackson, which Spark contains, and Apache's HTTP client, which Debian
packages contain. These packages must be unpacked in FOLDER. The script copies both libraries under
the expected names into `FOLDER/shaded.jar`.
"""

import pathlib
import struct
import sys
import zipfile

import pyspark

PACKAGES = (b"com/fasterxml/jackson", b"org/apache/hc")
BELOW = b"org/apache/iceberg/shaded/"

# A class that is missing in Debian's older HTTP client. Iceberg refers to this class, but uses it
# only with TLS.
MISSING = "org/apache/iceberg/shaded/org/apache/hc/client5/http/ssl/TlsSocketStrategy"

# Size of a constant in a class file in bytes, by the constant's tag and including the tag. A text
# contains its own size.
CONSTANTS = {3: 5, 4: 5, 5: 9, 6: 9, 7: 3, 8: 3, 9: 5, 10: 5, 11: 5, 12: 5, 15: 4, 16: 3, 17: 5, 18: 5, 19: 3, 20: 3}
TEXT, WIDE = 1, (5, 6)


def moved(text):
    """Returns a text in which the names of the packages are replaced by the expected names."""
    for package in PACKAGES:
        for name, below in ((package, BELOW), (package.replace(b"/", b"."), BELOW.replace(b"/", b"."))):
            text = text.replace(name, below + name)
    return text


def moved_class(code):
    """Returns a class file with the expected package names. Every name is a text among the
    constants."""
    (count,) = struct.unpack_from(">H", code, 8)
    parts, at, index = [code[:10]], 10, 1
    while index < count:
        tag = code[at]
        if tag == TEXT:
            (length,) = struct.unpack_from(">H", code, at + 1)
            text = moved(code[at + 3 : at + 3 + length])
            parts.append(struct.pack(">BH", TEXT, len(text)) + text)
            at += 3 + length
        else:
            parts.append(code[at : at + CONSTANTS[tag]])
            at += CONSTANTS[tag]
        index += 2 if tag in WIDE else 1
    return b"".join([*parts, code[at:]])


def empty_interface(name):
    """Returns the class file of an interface without methods."""
    constants = b""
    for text in (name.encode(), b"java/lang/Object"):
        constants += struct.pack(">BH", TEXT, len(text)) + text
    constants += struct.pack(">BHBH", 7, 1, 7, 2)
    return struct.pack(">IHHH", 0xCAFEBABE, 0, 52, 5) + constants + struct.pack(">7H", 0x0601, 3, 4, 0, 0, 0, 0)


def main():
    """Writes the jar."""
    folder = pathlib.Path(sys.argv[1])
    theirs = pathlib.Path(pyspark.__file__).parent / "jars"
    sources = [next(theirs.glob(f"jackson-{part}-2.*.jar")) for part in ("annotations", "core", "databind")]
    sources += [folder / f"usr/share/java/{name}.jar" for name in ("httpclient5", "httpcore5", "httpcore5-h2")]
    written = set()
    with zipfile.ZipFile(folder / "shaded.jar", "w") as made:
        made.writestr(f"{MISSING}.class", empty_interface(MISSING))
        for source in sources:
            with zipfile.ZipFile(source) as jar:
                for name in jar.namelist():
                    new = moved(name.encode()).decode()
                    if new == name or name.endswith("/") or new in written:
                        continue
                    written.add(new)
                    content = jar.read(name)
                    made.writestr(new, moved_class(content) if name.endswith(".class") else content)


if __name__ == "__main__":
    main()
