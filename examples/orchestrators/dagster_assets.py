"""The models of a Headwater project as one Dagster asset for each table.

The project's plan determines the assets and their dependencies.
"""

import os

import dagster

import headwater

PROJECT = os.environ.get("HEADWATER_PROJECT", ".")


def _models() -> dict[str, dict]:
    """Returns the models of the project, by name."""
    plan = headwater.Client(PROJECT).run(PROJECT, dry_run=True)
    return {step["name"]: step for step in plan["steps"] if step["kind"] != "expectation"}


def _key(name: str) -> dagster.AssetKey:
    return dagster.AssetKey(name.split("."))


MODELS = _models()


@dagster.multi_asset(
    specs=[
        dagster.AssetSpec(
            _key(name),
            deps=[_key(parent) for parent in step["parents"]],
            kinds={step["kind"]},
            skippable=True,
        )
        for name, step in MODELS.items()
    ],
)
def project(context: dagster.AssetExecutionContext):
    """Runs the project. A model that did not change is not materialized again."""
    report = headwater.Client(PROJECT).run(PROJECT)
    for step in report["steps"]:
        if step["step"] in MODELS and step["status"] == "succeeded":
            metadata = {"rows": step.get("rows") or 0, "cost": step["cost"]}
            yield dagster.MaterializeResult(_key(step["step"]), metadata=metadata)


defs = dagster.Definitions(
    assets=[project],
    schedules=[
        dagster.ScheduleDefinition(
            name="nightly", target=dagster.AssetSelection.all(), cron_schedule="15 2 * * *"
        )
    ],
)

if __name__ == "__main__":
    result = dagster.materialize([project])
    keys = [event.asset_key.to_user_string() for event in result.get_asset_materialization_events()]
    print("changed:", sorted(keys))
