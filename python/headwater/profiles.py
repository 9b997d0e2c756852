"""Profiles: the servers that the user logged in to with `headwater login`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace

from .errors import make


@dataclass(frozen=True)
class Profile:
    """A server with the user's token and active branch."""

    name: str
    url: str
    token: str
    certificate: str | None
    branch: str | None


def find_profile(name: str | None) -> Profile | None:
    """Returns the profile with this name; without a name, the default profile, or None if there is
    no default."""
    path = _path()
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        chosen = name or content.get("default")
        found = content["profiles"].get(chosen) if chosen else None
        if found is not None:
            certificate, branch = found.get("certificate"), found.get("branch")
            return Profile(chosen, found["url"], found["token"], certificate, branch)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "Delete the file, and run `headwater login` again."
        raise make("invalid_argument", f"the profiles in `{path}` are unreadable", hint) from error
    if name is None:
        return None
    hint = "List the profiles with `headwater profile ls`, or run `headwater login URL`."
    raise make("file_not_found", f"there is no profile `{name}`", hint)


def set_branch(profile: Profile, branch: str) -> Profile:
    """Sets the active branch of a profile, and returns the profile."""
    path = _path()
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    content["profiles"][profile.name]["branch"] = branch
    temporary = f"{path}.{os.getpid()}.new"
    # Only the user may read the tokens in this file.
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=2)
    os.replace(temporary, path)
    return replace(profile, branch=branch)


def _path() -> str:
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):
        folder = os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(folder, "headwater", "profiles.json")
