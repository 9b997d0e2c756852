"""Parses the server's metrics with the client library of Prometheus, in both formats.

    metrics.py URL AUTHORIZATION

Needs: prometheus-client.
"""

import sys
import urllib.request

from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics import parser as openmetrics_parser

URL, AUTHORIZATION = sys.argv[1:3]


def scrape(accept):
    headers = {"authorization": AUTHORIZATION, "accept": accept}
    with urllib.request.urlopen(urllib.request.Request(URL, headers=headers)) as response:
        return response.headers["content-type"], response.read().decode()


def check(families, info):
    families = {family.name: family for family in families}
    calls = families["headwater_function_calls"]
    assert calls.type == "counter" and calls.documentation, calls
    values = {tuple(sample.labels.values()): sample.value for sample in calls.samples}
    assert values[("double", "succeeded")] == 1, values
    times = families["headwater_function_run_seconds"]
    assert times.type == "histogram", times
    buckets = [sample for sample in times.samples if sample.name.endswith("_bucket")]
    assert buckets[-1].labels["le"] == "+Inf" and buckets[-1].value == 1, buckets
    assert families[info].samples[0].labels["version"], families[info]
    assert families["process_open_fds"].samples[0].value > 3


kind, text = scrape("text/plain")
assert kind == "text/plain; version=0.0.4; charset=utf-8", kind
check(parser.text_string_to_metric_families(text), "headwater_build_info")
kind, text = scrape(openmetrics.exposition.CONTENT_TYPE_LATEST)
assert kind.startswith("application/openmetrics-text"), kind
# This parser is strict: it rejects names, types and orders that the format does not allow.
check(openmetrics_parser.text_string_to_metric_families(text), "headwater_build")
print("ok")
