"""Sizes and durations: `512MiB`, `90s`, `1h30m`.

The rules are the same as in the server's parser, `crates/model/src/quantity.rs`.
"""

from __future__ import annotations

SIZE_MAX = 10**18
SECONDS_MAX = 100 * 365 * 86_400

SIZE_UNITS = {
    "": 1,
    "b": 1,
    "k": 1 << 10,
    "kib": 1 << 10,
    "m": 1 << 20,
    "mib": 1 << 20,
    "g": 1 << 30,
    "gib": 1 << 30,
    "t": 1 << 40,
    "tib": 1 << 40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
TIME_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "min": 60, "m": 60, "s": 1, "ms": 0.001}

DIGITS = "0123456789"


def parse_size(text: str) -> float | None:
    """Returns the bytes that a text such as `512MiB` means, or None."""
    found = _part(text.strip())
    if found is None or found[2] or found[1].lower() not in SIZE_UNITS:
        return None
    size = found[0] * SIZE_UNITS[found[1].lower()]
    return size if 1 <= size < SIZE_MAX else None


def parse_duration(text: str) -> float | None:
    """Returns the seconds that a text such as `1h30m` means, or None. A number alone is in seconds."""
    rest, seconds, shortest = text.strip(), 0.0, float("inf")
    found = _part(rest)
    if found is not None and not found[1] and not found[2]:
        return found[0] if 0 < found[0] < 10**9 else None
    while True:
        found = _part(rest)
        scale = TIME_UNITS.get(found[1]) if found else None
        if found is None or scale is None or scale >= shortest:
            return None
        seconds, shortest, rest = seconds + found[0] * scale, scale, found[2]
        if not rest:
            return seconds if 0 < seconds <= SECONDS_MAX else None


def _part(text: str) -> tuple[float, str, str] | None:
    """Splits a text into its first number, its unit and the rest."""
    rest = text.lstrip(DIGITS + ".")
    number = text[: len(text) - len(rest)]
    if not number.replace(".", "", 1).isdecimal():
        return None
    rest = rest.lstrip()
    end = 0
    while end < len(rest) and rest[end] not in DIGITS + "." and not rest[end].isspace():
        end += 1
    return float(number), rest[:end], rest[end:].lstrip()
