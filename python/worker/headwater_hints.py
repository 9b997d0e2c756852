"""Messages of exceptions of a user's code, and hints for them."""

import socket
import sys

# Packages whose import name differs from the name on PyPI.
INSTALLED_AS = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}

TEXT_CHARS_MAX = 8 << 10  # Maximum length of a message.
NETWORK_ERRNOS = {100, 101, 111, 113}  # ENETDOWN, ENETUNREACH, ECONNREFUSED, EHOSTUNREACH


def message_of(error):
    """Returns the message of an exception, shortened."""
    if isinstance(error, SyntaxError):
        return str(error.msg)
    try:
        text = str(error)
    except Exception:
        text = "<its message cannot be shown>"
    return text[:TEXT_CHARS_MAX]


def chain(error):
    """Returns an exception and its causes."""
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return seen


def hint_for(error, task):
    """Returns a hint for known exceptions, with the names of the package that the project uses
    (`headwater` or `bauplan`)."""
    for cause in chain(error):
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            top = cause.name.split(".")[0]
            package = INSTALLED_AS.get(top, top.replace("_", "-"))
            return f'Add `"{package}"` to {packages_setting(task)}.'
        if isinstance(cause, OSError):
            unreachable = isinstance(cause, socket.gaierror) or cause.errno in NETWORK_ERRNOS
            if unreachable and not task["network"]:
                return network_hint(task)
            if cause.errno in (13, 30):
                return "Write to `/tmp`: all other folders are read-only."
            if cause.errno == 24:
                import resource

                most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
                return f"Close unused files: a function has at most {most:,} open at a time."
        if is_without_processes(cause):
            return "Start fewer processes and threads: a function has at most 4,096 at a time."
    return None


def packages_setting(task):
    """Returns the place of the function's packages, for hints."""
    if task["settings"] == "project_file":
        return "`packages` of the function in `headwater.toml`"
    if task["settings"] == "deployment":
        return "`requirements.txt` in the function's folder, and deploy the function again"
    if task["settings"] == "sql_function":
        return "`PACKAGES` with CREATE OR REPLACE FUNCTION"
    package = "bauplan" if "bauplan" in sys.modules else "headwater"
    return f"`pip={{...}}` in the function's `@{package}.python`"


def network_hint(task):
    """Returns the hint for a function without network access."""
    if task["settings"] == "sql_function":
        return "Use a model or a deployed function: functions of CREATE FUNCTION have no network."
    if task["settings"] == "project_file":
        setting = 'Set `network = ["HOST:PORT"]` of the function in `headwater.toml`'
    elif task["settings"] == "deployment":
        setting = "Deploy the function again with `--network HOST:PORT`"
    else:
        name = "internet_access" if "bauplan" in sys.modules else "network"
        setting = f"Set `{name}=True` in the function's decorator"
    return f"{setting}: it has no network otherwise."


def is_without_processes(error):
    """Returns true if no process or thread could be started."""
    if isinstance(error, RuntimeError):
        return str(error) == "can't start new thread"
    return isinstance(error, OSError) and error.errno == 11


def is_unreachable(error):
    """Returns true if a host could not be reached."""
    kinds = (socket.gaierror, ConnectionError)
    return any(
        isinstance(cause, kinds) or (isinstance(cause, OSError) and cause.errno in NETWORK_ERRNOS)
        for cause in chain(error)
    )
