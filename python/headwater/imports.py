"""Imports of files: methods of `Client`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from . import partition
from .choices import FileFormat, OnError
from .errors import HeadwaterError, make
from .requests import OnEvent, check_options, without_none
from .runs import RunningJob, Runs

if TYPE_CHECKING:
    from typing_extensions import Unpack

# One file, folder, glob or URL, or several.
Sources = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class ImportOptions(TypedDict, total=False):
    """The options of an import, as `import_files` describes them."""

    ref: str | None
    nulls: Iterable[str]
    types: Mapping[str, str] | None
    on_error: OnError
    again: bool
    partition_by: str | Iterable[str]
    format: FileFormat | None
    delimiter: str | None
    header: bool | None
    encoding: str | None
    date_format: str | None
    decimal_comma: bool


class Imports(Runs):
    """Imports of files into tables."""

    def import_files(
        self,
        table: str,
        sources: Sources,
        *,
        ref: str | None = None,
        nulls: Iterable[str] = (),
        types: Mapping[str, str] | None = None,
        on_error: OnError = "stop",
        again: bool = False,
        dry_run: bool = False,
        partition_by: str | Iterable[str] = (),
        format: FileFormat | None = None,
        delimiter: str | None = None,
        header: bool | None = None,
        encoding: str | None = None,
        date_format: str | None = None,
        decimal_comma: bool = False,
        on_event: OnEvent | None = None,
    ) -> dict[str, Any]:
        """Imports files into a table on the branch `ref` and waits for the end.

        `sources` are files, folders and globs on the server's machine. Relative paths start at this
        process's working folder. A client with a profile sends the files of this machine instead;
        it accepts no folders and globs. A missing table is created. `nulls` are texts that mean
        null. `types` are Iceberg types by column. `partition_by` are the partition fields of a new
        table: `column`, `day(column)` (or `year`, `month`, `hour`), `bucket(16, column)` or
        `truncate(4, column)`. A bad row raises `BadRowError`. With `on_error="reject"`, bad rows
        are written to `<table>__rejected` instead. Files that were imported before are skipped,
        except with `again`. The format, delimiter, header and encoding are detected by default.
        `date_format`, such as `DD.MM.YYYY`, and `decimal_comma` set the formats of CSV files.

        Returns the import's report: `commit`, `files`, `files_skipped`, `rows`, `rows_rejected`,
        ...; with `dry_run`, returns the plan, with every column and its type.
        """
        options: ImportOptions = {
            "ref": ref,
            "nulls": nulls,
            "types": types,
            "on_error": on_error,
            "again": again,
            "partition_by": partition_by,
            "format": format,
            "delimiter": delimiter,
            "header": header,
            "encoding": encoding,
            "date_format": date_format,
            "decimal_comma": decimal_comma,
        }
        request, uploads = self._import_request(table, sources, options)
        try:
            result = self._work("/v1/imports", {**request, "dry_run": dry_run}, on_event)
        except HeadwaterError as error:
            # If the connection is lost, keep the uploads: the import continues and reads them.
            if error.code != "unavailable":
                self._delete_uploads(uploads)
            raise
        self._delete_uploads(uploads)
        return result

    def start_import(
        self, table: str, sources: Sources, **options: Unpack[ImportOptions]
    ) -> RunningJob:
        """Starts an import with the options of `import_files`, and does not wait for its end.
        Files that a client with a profile sends are kept for a day."""
        check_options(options, ImportOptions)
        request, _ = self._import_request(table, sources, options)
        return self.running_job(self._dict("POST", "/v1/imports", request)["id"])

    def _import_request(
        self, table: str, sources: Sources, options: ImportOptions
    ) -> tuple[dict[str, Any], list[str]]:
        """Returns a request and its uploads. A client with a profile sends the files."""
        listed = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
        paths = [_absolute(source) for source in listed]
        nulls = options.get("nulls", ())
        given = options.get("partition_by", ())
        fields = [given] if isinstance(given, str) else list(given)
        request = {
            "table": table,
            "sources": paths,
            "ref": self._at_if_known(options.get("ref")),
            "nulls": [nulls] if isinstance(nulls, str) else list(nulls),
            "types": dict(options.get("types") or {}),
            "partition": [
                _partition_field(part) for text in fields for part in partition.split(text)
            ],
            "on_error": options.get("on_error", "stop"),
            "again": options.get("again", False),
            "format": options.get("format"),
            "delimiter": options.get("delimiter"),
            "header": options.get("header"),
            "encoding": options.get("encoding"),
            "date_format": options.get("date_format"),
            "decimal_comma": options.get("decimal_comma") or None,
        }
        # Files are sent last, so that an invalid option sends none.
        uploads: list[str] = []
        if self._connection.profile is not None:
            try:
                request["sources"] = [self._uploaded(path, uploads) for path in paths]
            except BaseException:
                self._delete_uploads(uploads)
                raise
        return without_none(request), uploads

    def _uploaded(self, source: str, uploads: list[str]) -> str:
        """Sends a file to the server's machine, adds its path there to `uploads` and returns it.
        URLs are unchanged."""
        if "://" in source:
            return source
        try:
            with open(source, "rb") as file:
                parameters = {"name": os.path.basename(source)}
                uploaded = self._connection.json("POST", "/v1/uploads", file, parameters)
        except OSError as error:
            message = f"`{source}` is not a readable file on this machine"
            hint = "Name files; a client with a profile accepts no folders and globs."
            raise make("invalid_argument", message, hint, causes=[str(error)]) from error
        uploads.append(str(uploaded["path"]))
        return uploads[-1]


def _absolute(source: str | os.PathLike[str]) -> str:
    text = os.fspath(source)
    return text if "://" in text else os.path.abspath(text)


def _partition_field(field: str) -> dict[str, str]:
    found = partition.parse(field)
    if found is None:
        raise make("invalid_argument", f"partition `{field}` is not valid", partition.HINT)
    column, transform = found
    return {"column": column, "transform": transform}
