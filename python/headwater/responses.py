"""Responses with rows, as JSON or Arrow, which are checked for completeness."""

from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING, Any

from .arrow_body import ArrowBody
from .connection import segments
from .errors import HeadwaterError, make
from .frames import import_package
from .requests import Requests
from .runs import FINAL, job_error

if TYPE_CHECKING:
    import pyarrow

# Maximum time to wait for the error of an incomplete response, in seconds.
ERROR_SECONDS_MAX = 2.0


class Responses(Requests):
    """Reads responses with rows."""

    def _table(self, response: http.client.HTTPResponse) -> pyarrow.Table:
        """Reads the rows of a response as Arrow. Raises an error if the response is incomplete."""
        pyarrow = import_package("pyarrow")
        body = ArrowBody(response)
        try:
            with pyarrow.ipc.open_stream(body) as reader:
                table = reader.read_all()
            body.check_end()
            return table
        except (OSError, EOFError, ValueError, http.client.HTTPException) as cut:
            raise self._cut(response, cut) from cut

    def _json(self, response: http.client.HTTPResponse) -> Any:
        """Reads a response as JSON. Raises an error if the response is incomplete."""
        try:
            return json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as cut:
            raise self._cut(response, cut) from cut

    def _cut(self, response: http.client.HTTPResponse, cut: BaseException) -> HeadwaterError:
        """Returns the error of an incomplete response: the job's error, if available."""
        job_id = response.getheader("x-headwater-job")
        deadline = time.monotonic() + ERROR_SECONDS_MAX
        while job_id:
            try:
                job = self._dict("GET", segments("v1", "jobs", job_id))
            except HeadwaterError:
                break
            if job["status"] in FINAL or time.monotonic() > deadline:
                if job.get("error"):
                    return job_error(job)
                break
            time.sleep(0.02)
        hint = "Check with `headwater job ls` whether the request succeeded before you send it again."
        cause = str(cut) or type(cut).__name__
        return make("unavailable", "the response was cut off", hint, causes=[cause])
