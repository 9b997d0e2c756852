"""A run of a Headwater project as an Airflow DAG."""

import os
from datetime import datetime, timedelta

from airflow.sdk import dag, task


@dag(schedule="15 2 * * *", start_date=datetime(2026, 1, 1), catchup=False)
def headwater_project():
    """Runs the project every night."""

    @task(retries=2, retry_delay=timedelta(seconds=5))
    def run_project() -> list[str]:
        import headwater

        project = os.environ.get("HEADWATER_PROJECT", ".")
        report = headwater.Client(project).run(project)
        print("changed:", report["tables"])
        return report["tables"]

    run_project()


headwater_project()
