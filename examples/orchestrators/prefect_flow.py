"""A run of a Headwater project as a Prefect flow."""

import os

from prefect import flow, get_run_logger, task

import headwater


@task(retries=2, retry_delay_seconds=5)
def run_project(project: str, ref: str | None = None) -> dict:
    """Runs the project and logs each model. A failed run raises its error."""
    logger = get_run_logger()

    def log(event: dict) -> None:
        if event["type"] == "step_ended":
            logger.info("%s %s", event["step"], event["status"])

    return headwater.Client(project).run(project, ref=ref, on_event=log)


@flow
def daily(project: str) -> list[str]:
    """Runs the project, and returns the tables that changed."""
    return run_project(project)["tables"]


if __name__ == "__main__":
    print("changed:", daily(os.environ.get("HEADWATER_PROJECT", ".")))
