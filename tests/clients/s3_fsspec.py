"""s3fs on the S3 endpoint: files, blocks, listings, copies, moves, deletes, links, pyarrow.

    s3_fsspec.py ENDPOINT

The last file that it writes is `landing/in/orders.csv`, whose trigger calls a function.

Needs: s3fs, requests, and an access key in the environment.
"""

import os
import sys
import tempfile

import requests
import s3fs

MIB = 1 << 20
ENDPOINT = sys.argv[1]


def files(fs):
    """Writes, reads and lists files, as a file system."""
    fs.mkdir("landing")
    assert fs.ls("") == ["landing"]
    fs.pipe("landing/a/one.csv", b"id\n1\n")
    fs.pipe({"landing/a/b/two é+.csv": b"id\n2\n", "landing/empty": b""})
    assert fs.cat("landing/a/one.csv") == b"id\n1\n"
    assert fs.cat("landing/a", recursive=True, on_error="omit") == {
        "landing/a/one.csv": b"id\n1\n",
        "landing/a/b/two é+.csv": b"id\n2\n",
    }
    assert fs.cat_file("landing/a/one.csv", start=3, end=4) == b"1"
    assert fs.tail("landing/a/one.csv", 2) == b"1\n"
    assert fs.ls("landing/a") == ["landing/a/b", "landing/a/one.csv"]
    assert fs.glob("landing/**/*.csv") == ["landing/a/b/two é+.csv", "landing/a/one.csv"]
    assert fs.find("landing") == ["landing/a/b/two é+.csv", "landing/a/one.csv", "landing/empty"]
    assert fs.du("landing") == 10
    assert fs.isdir("landing/a") and fs.isfile("landing/empty")
    assert not fs.exists("landing/none") and not fs.exists("other/none")
    assert fs.info("landing/a/one.csv")["size"] == 5
    walked = [(path, sorted(names)) for path, _, names in fs.walk("landing/a")]
    assert walked == [("landing/a", ["one.csv"]), ("landing/a/b", ["two é+.csv"])]
    for missing in ["landing/none", "other/none"]:
        try:
            fs.cat(missing)
        except FileNotFoundError:
            continue
        raise AssertionError(f"{missing} exists")


def large(fs):
    """Writes a file in parts, and reads it in blocks and ranges."""
    content = os.urandom(23 * MIB)
    with fs.open("landing/large", "wb", block_size=5 * MIB) as file:
        for start in range(0, len(content), MIB):
            file.write(content[start : start + MIB])
    assert fs.info("landing/large")["ETag"].strip('"').endswith("-5")
    with fs.open("landing/large", "rb", block_size=MIB) as file:
        file.seek(-3 * MIB, 2)
        assert file.read() == content[-3 * MIB :]
        file.seek(7 * MIB + 1)
        assert file.read(100) == content[7 * MIB + 1 : 7 * MIB + 101]
    found = fs.cat_ranges(["landing/large"] * 3, [0, MIB, 22 * MIB], [10, 2 * MIB, 23 * MIB])
    assert found == [content[:10], content[MIB : 2 * MIB], content[22 * MIB :]]
    with tempfile.TemporaryDirectory() as folder:
        fs.get("landing/large", f"{folder}/large", max_concurrency=4)
        with open(f"{folder}/large", "rb") as file:
            assert file.read() == content
        fs.put(f"{folder}/large", "landing/again", chunksize=6 * MIB)
    assert fs.cat("landing/again") == content
    fs.copy("landing/large", "landing/copied")
    assert fs.cat_file("landing/copied", start=-10) == content[-10:]
    # An upload that is discarded leaves no object and no parts.
    try:
        with fs.transaction, fs.open("landing/lost", "wb") as file:
            file.write(content[: 6 * MIB])
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert not fs.exists("landing/lost")
    fs.clear_multipart_uploads("landing")


def changes(fs):
    """Copies, moves, appends to, renames and deletes files; metadata and links."""
    fs.copy("landing/a/one.csv", "landing/c/one.csv")
    fs.mv("landing/c/one.csv", "landing/d/moved.csv")
    assert not fs.exists("landing/c/one.csv")
    fs.copy("landing/a/", "landing/e/", recursive=True)
    fs.rm("landing/a", recursive=True)
    assert fs.find("landing/e") == ["landing/e/b/two é+.csv", "landing/e/one.csv"]
    with fs.open("landing/d/moved.csv", "ab") as file:
        file.write(b"2\n")
    assert fs.cat("landing/d/moved.csv") == b"id\n1\n2\n"
    with fs.open("landing/once", "xb") as file:
        file.write(b"1")
    try:
        with fs.open("landing/once", "xb") as file:
            file.write(b"2")
        raise AssertionError("an existing file was replaced")
    except FileExistsError:
        pass
    assert fs.cat("landing/once") == b"1"
    fs.setxattr("landing/once", copy_kwargs={"ContentType": "text/plain"}, source="test")
    assert fs.metadata("landing/once", refresh=True) == {"source": "test"}
    fs.touch("landing/touched")
    assert fs.size("landing/touched") == 0
    assert fs.modified("landing/touched").tzinfo is not None
    link = fs.sign("landing/d/moved.csv", expiration=60)
    assert requests.get(link, timeout=10).content == b"id\n1\n2\n"
    part = requests.get(link, headers={"range": "bytes=3-3"}, timeout=10)
    assert (part.status_code, part.content) == (206, b"1")
    fs.rm("landing/e", recursive=True)
    fs.rm(["landing/copied", "landing/again"])
    assert fs.find("landing") == [
        "landing/d/moved.csv",
        "landing/empty",
        "landing/large",
        "landing/once",
        "landing/touched",
    ]


def many(fs):
    """Lists and deletes more files than one response holds."""
    fs.mkdir("many")
    fs.pipe({f"many/{number:04}": b"" for number in range(1_050)})
    assert len(fs.ls("many")) == 1_050
    fs.rm("many", recursive=True)
    assert not fs.exists("many")


def main():
    """Runs all checks on a new lake."""
    fs = s3fs.S3FileSystem(
        endpoint_url=ENDPOINT, default_block_size=5 * MIB, use_listings_cache=False
    )
    for check in [files, large, changes, many]:
        check(fs)
    fs.pipe("landing/in/orders.csv", b"id\n1\n2\n")
    print("ok")


if __name__ == "__main__":
    main()
