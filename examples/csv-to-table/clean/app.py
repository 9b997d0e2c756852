"""Cleans a CSV file that arrived in a bucket, and appends its rows to an Iceberg table."""

import csv
import io
from urllib.parse import unquote_plus

from headwater import lake


def clean(row):
    """Returns a row with typed values, or None if it cannot be used."""
    try:
        return {
            "id": int(row["id"]),
            "product": row["product"].strip().lower(),
            "amount": float(row["amount"].replace(",", ".")),
        }
    except ValueError:
        print("rejected", row)
        return None


def handler(event, context):
    s3 = event["Records"][0]["s3"]
    bucket, key = s3["bucket"]["name"], unquote_plus(s3["object"]["key"])
    lines = io.StringIO(lake.read_object(bucket, key).decode("utf-8-sig"))
    rows = [row for row in map(clean, csv.DictReader(lines, delimiter=";")) if row]
    return {"key": key, "rows": lake.append("orders", rows) if rows else 0}
