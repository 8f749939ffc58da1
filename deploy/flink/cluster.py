#!/usr/bin/env python3
"""Starts, shows and stops a Flink session cluster on this machine, with all that a pixdex job needs of one.

    python deploy/flink/cluster.py start     # JobManager, TaskManagers, Beam's job server, a worker pool a TaskManager
    python deploy/flink/cluster.py status
    python deploy/flink/cluster.py stop

Run it with the Python that pixdex is installed for, after install.sh. `start` starts what does not run, so it also
brings back a TaskManager that died. Everything listens on this machine only. Process ids and logs are in the run folder
(--run-dir), and nothing is stopped that was not started from there.

One TaskManager has --slots slots (two, unless told otherwise). More TaskManagers (--task-managers 2) get a network
namespace each, since a worker pool serves one TaskManager: that takes root and the `ip` command.

The last line on stdout is one JSON object with the addresses of what runs.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from errors import ClusterError
from installed import HERE, distribution, flink_folder, job_server_jar, minor_version, suitable_java
from network import BRIDGE, connect, disconnect, free_subnet
from parts import LOOPBACK, Cluster, free_port, listens, start_job_manager, start_job_server, start_task_managers
from processes import end, running

SLOTS = 2


def start(options: argparse.Namespace) -> int:
    """Starts what does not run."""
    run: Path = options.run_dir
    run.mkdir(parents=True, exist_ok=True)
    cluster = known(run)
    new = cluster is None
    if cluster is not None:
        check_shape(cluster, options)
    else:
        cluster = planned(options)
        (run / "cluster.json").write_text(json.dumps(asdict(cluster), indent=2) + "\n")
    try:
        connect({name: cluster.address(number) for number, name in enumerate(cluster.namespaces)})
        start_job_manager(run, cluster)
        start_task_managers(run, cluster)
        start_job_server(run, cluster)
    except ClusterError:
        if new:  # of one that stands, what runs goes on
            stop(options)
        raise
    show(run, cluster)
    return 0


def status(options: argparse.Namespace) -> int:
    """Shows what runs."""
    cluster = known(options.run_dir)
    if cluster is None:
        raise ClusterError(f"no cluster was started from {options.run_dir}: python {__file__} start")
    return show(options.run_dir, cluster)


def stop(options: argparse.Namespace) -> int:
    """Stops everything that was started from the run folder; its logs stay."""
    cluster = known(options.run_dir)
    if cluster is None:
        return 0
    for name in parts(cluster):
        end(options.run_dir, name)
    disconnect(cluster.namespaces)
    (options.run_dir / "cluster.json").unlink()
    return 0


def parts(cluster: Cluster) -> list[str]:
    """Names of the processes, in the order in which they are stopped."""
    several = [f"{part}-{number}" for number in cluster.task_managers for part in ("taskmanager", "worker-pool")]
    return ["job-server", *several, "jobmanager"]


def show(run: Path, cluster: Cluster) -> int:
    """Prints what runs and where; returns 1 if something does not."""
    ids = {name: running(run, name) for name in parts(cluster)}
    for name, pid in ids.items():
        print(f"{name}: {'does not run' if pid is None else f'process {pid}'}", file=sys.stderr)
    record = {
        "rest": f"http://{cluster.rest}",
        "job_endpoint": f"{LOOPBACK}:{cluster.job_port}",
        "worker_pool": f"localhost:{cluster.pool_port}",
        "flink_version": minor_version(),
        "job_server_jar": str(job_server_jar(Path(cluster.flink))),
        "java": cluster.java,
        "logs": str(run),
        "processes": ids,
    }
    print(json.dumps(record))
    return int(None in ids.values())


def known(run: Path) -> Cluster | None:
    """Reads what the cluster of a run folder was started with."""
    with contextlib.suppress(OSError):
        return Cluster(**json.loads((run / "cluster.json").read_text()))
    return None


def check_shape(cluster: Cluster, options: argparse.Namespace) -> None:
    """Refuses to start what is missing of a cluster as if it were another one.

    Raises:
        ClusterError: it has another number of TaskManagers, or of slots.
    """
    has = {"--task-managers": len(cluster.task_managers), "--slots": cluster.slots}
    asked = {"--task-managers": options.task_managers, "--slots": options.slots}
    for flag, number in asked.items():
        if number not in (None, has[flag]):
            raise ClusterError(f"this cluster was started with {flag} {has[flag]}: python {__file__} stop, first")


def planned(options: argparse.Namespace) -> Cluster:
    """Decides on a new cluster.

    Raises:
        ClusterError: something is not installed, or a port is taken.
    """
    flink = flink_folder()
    if not distribution(flink).is_dir() or not job_server_jar(flink).is_file():
        raise ClusterError(f"Flink is not in {flink}: bash {HERE / 'install.sh'} (PIXDEX_FLINK names another folder)")
    java = suitable_java()
    chosen = (options.rest_port, options.job_port, options.pool_port, options.rpc_port)
    rest, job, pool, rpc = ports = [port or free_port() for port in chosen]
    taken = [str(port) for port in ports if listens(port)]
    if taken:
        raise ClusterError(
            f"port {taken[0]} is taken: stop what listens there, or choose with --rest-port, --job-port, --pool-port "
            "and --rpc-port; 0 takes a free one"
        )
    slots, task_managers = options.slots or SLOTS, options.task_managers or 1
    if task_managers == 1:
        return Cluster(str(flink), java, rest, job, pool, rpc, slots)
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise ClusterError(
            "several TaskManagers on one machine take network namespaces, that is root and the ip command (Debian: apt "
            "install iproute2): start one, with more --slots"
        )
    names = [f"{BRIDGE}{rest}-{number}" for number in range(1 + task_managers)]
    return Cluster(str(flink), java, rest, job, pool, rpc, slots, names, free_subnet())


def main(argv: Sequence[str] | None = None) -> int:
    """Carries out a command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("start", "status", "stop"))
    parser.add_argument("--run-dir", type=lambda text: Path(text).absolute(), default=flink_folder() / "run")
    parser.add_argument("--task-managers", type=int, help="default 1")
    parser.add_argument("--slots", type=int, help=f"of each TaskManager (default {SLOTS})")
    parser.add_argument("--rest-port", type=int, default=8081, help="of Flink's REST interface and console")
    parser.add_argument("--job-port", type=int, default=8099, help="of Beam's job server")
    parser.add_argument("--pool-port", type=int, default=50000, help="of the worker pool of each TaskManager")
    parser.add_argument("--rpc-port", type=int, default=6123, help="of the JobManager, for TaskManagers")
    options = parser.parse_args(argv)
    try:
        return {"start": start, "status": status, "stop": stop}[options.command](options)
    except ClusterError as error:
        print(f"cluster.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
