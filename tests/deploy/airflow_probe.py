"""Imports a folder of DAGs with the Airflow of another Python, and prints what that Airflow makes of them.

    PYTHON-WITH-AIRFLOW airflow_probe.py FOLDER

One JSON object: what could not be imported, and each DAG with its tasks and the pods that they would start.
"""

import json
import sys
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from kubernetes.client import ApiClient


def main(folder: str) -> None:
    """Prints the object as the last line."""
    plain = ApiClient().sanitize_for_serialization
    bag = DagBag(folder)
    dags: dict[str, Any] = {
        name: {
            "schedule": dag.schedule,
            "max_active_runs": dag.max_active_runs,
            "catchup": dag.catchup,
            "tasks": {
                task.task_id: {
                    "retries": task.retries,
                    "downstream": sorted(task.downstream_task_ids),
                    "pod": plain(task.build_pod_request_obj()),
                }
                for task in dag.tasks
            },
        }
        for name, dag in bag.dags.items()
    }
    print(json.dumps({"errors": bag.import_errors, "dags": dags}))


if __name__ == "__main__":
    main(sys.argv[1])
