"""The output of a function's calls while they run, for `function_logs` with `follow`.

One thread waits for new calls. Another thread for each running call reads its events, so that a
long call does not delay the output of other calls. After the caller stops the iteration, each
thread ends with its next response or event.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from .runs import FINAL

# The maximum number of calls whose events are read at a time. Further calls are read later.
STREAMS_MAX = 64

# The maximum number of outputs that wait for the caller. Then the threads stop reading.
OUTPUTS_MAX = 1_000

# Pause between two checks whether the caller has stopped the iteration, in seconds.
CHECK_SECONDS = 1.0

# New calls, the output of a call, or the error of a thread.
Message = list[dict[str, Any]] | dict[str, Any] | Exception


class CallFollower:
    """Reads the output of calls from a client while the calls run."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._messages: queue.Queue[Message] = queue.Queue(OUTPUTS_MAX)
        self._stopped = threading.Event()

    def follow(
        self, running: Iterable[dict[str, Any]], new_calls: Iterable[list[dict[str, Any]]]
    ) -> Iterator[dict[str, Any]]:
        """Yields the output of running and new calls: the `job` of a call and its new `events`.

        The last output of a call contains the ended job. `new_calls` yields lists of calls, which
        can be empty. Its iteration takes place in another thread.
        """
        waiting = deque(running)
        streams = 0
        self._start(self._search, new_calls)
        try:
            while True:
                while waiting and streams < STREAMS_MAX:
                    self._start(self._read, waiting.popleft())
                    streams += 1
                message = self._messages.get()
                if isinstance(message, Exception):
                    raise message
                if isinstance(message, list):
                    waiting.extend(message)
                    continue
                streams -= message.pop("is_last")
                yield message
        finally:
            self._stopped.set()

    def _search(self, new_calls: Iterable[list[dict[str, Any]]]) -> None:
        for calls in new_calls:
            if not self._send(calls):
                return

    def _read(self, call: dict[str, Any]) -> None:
        """Sends each event of a call. Sends the last event together with the ended job.

        A call that ended before it was found has only one output.
        """
        last = []
        if call["status"] in FINAL:
            last = list(self._client.job_events(call["id"]))
            self._send({"job": call, "events": last, "is_last": True})
            return
        for event in self._client.job_events(call["id"], follow=True):
            if event["type"] == "ended":
                last.append(event)
            elif not self._send({"job": call, "events": [event], "is_last": False}):
                return
        self._send({"job": self._client.job(call["id"]), "events": last, "is_last": True})

    def _send(self, message: Message) -> bool:
        """Returns false if the caller has stopped the iteration."""
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._messages.put(message, timeout=CHECK_SECONDS)
                return True
        return False

    def _start(self, work: Callable[[Any], None], argument: Any) -> None:
        def run() -> None:
            try:
                work(argument)
            except Exception as error:
                self._send(error)

        threading.Thread(target=run, name="headwater-logs", daemon=True).start()
