"""Airflow's way to run pixdex every night, instead of `deploy/kubernetes/nightly-cronjob.yaml`: use one of the two.

Copy this file into the DAGs folder of an Airflow that reaches the cluster; `requirements.txt` says what it needs. Each
task is one command in a pod of its own, on the Flink cluster and with the volume of `deploy/kubernetes`.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from kubernetes.client import models as k8s

# Sources, encoder and index are those of the first build, which the root knows.
NIGHTLY = (
    "pixdex",
    "reindex",
    "--root=/data/photos",
    "--worker-memory=6G",
    "--no-progress",
    "--runner=PortableRunner",
    "--job_endpoint=pixdex-job-server:8099",
    "--environment_type=EXTERNAL",
    "--environment_config=localhost:50000",
    "--parallelism=4",
    "--sdk_worker_parallelism=2",
)
REPORT = ("pixdex", "inspect", "--root=/data/photos", "--json")


def pixdex(task_id: str, command: tuple[str, ...]) -> KubernetesPodOperator:
    """A task that runs one command of pixdex in a pod and fails as it fails."""
    program, *arguments = command
    return KubernetesPodOperator(
        task_id=task_id,
        name=f"pixdex-{task_id}",
        namespace="pixdex",
        labels={"app.kubernetes.io/name": "pixdex-submitter"},  # kubernetes/network.yaml lets it reach the job server
        image="pixdex:0.1.0",
        cmds=[program],
        arguments=arguments,
        container_resources=k8s.V1ResourceRequirements(
            requests={"cpu": "1", "memory": "4Gi"}, limits={"cpu": "2", "memory": "4Gi"}
        ),
        security_context=k8s.V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=10001,
            run_as_group=10001,
            fs_group=9999,
            seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
        ),
        container_security_context=k8s.V1SecurityContext(
            allow_privilege_escalation=False, capabilities=k8s.V1Capabilities(drop=["ALL"])
        ),
        automount_service_account_token=False,
        volumes=[
            k8s.V1Volume(
                name="data",
                persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(claim_name="pixdex-data"),
            )
        ],
        volume_mounts=[k8s.V1VolumeMount(name="data", mount_path="/data")],
        # The pod of a worker of Airflow that died is found again; a failed one stays to be looked at.
        reattach_on_restart=True,
        on_finish_action="delete_succeeded_pod",
    )


with DAG(
    dag_id="pixdex_nightly",
    description="Brings the index up to date with its sources, and says what it holds",
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    # Never two at once, and none for the nights that were missed: the next one does their work.
    max_active_runs=1,
    catchup=False,
    # The same command goes on from its markers, so that another try does only what is left.
    default_args={"retries": 3, "retry_delay": timedelta(minutes=10), "retry_exponential_backoff": True},
    tags=["pixdex"],
):
    pixdex("nightly", NIGHTLY) >> pixdex("report", REPORT)
