"""Servers that `headwater login` stored in the user's configuration folder, with their tokens."""

from __future__ import annotations

import json
import os
from typing import Any

# The file in the configuration folder, which only its user can read.
FILE = os.path.join("headwater", "servers.json")


def active_server() -> str | None:
    """Returns the address of the server that commands use without a lake; None if there is none."""
    active = _read().get("active")
    return active if isinstance(active, str) else None


def stored_token(url: str) -> str | None:
    """Returns the access token for a server."""
    return _text(url, "token")


def stored_certificate(url: str) -> str | None:
    """Returns the certificate to trust for a server, as PEM text; None: those of the system."""
    return _text(url, "certificate")


def _text(url: str, field: str) -> str | None:
    servers = _read().get("servers")
    server = servers.get(url) if isinstance(servers, dict) else None
    value = server.get(field) if isinstance(server, dict) else None
    return value if isinstance(value, str) else None


def _read() -> dict[str, Any]:
    named = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative path is ignored, as the XDG specification says.
    folder = named if os.path.isabs(named) else os.path.expanduser(os.path.join("~", ".config"))
    try:
        with open(os.path.join(folder, FILE), encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
