#!/bin/sh
# Finds the role of a container by its first word:
#
#     build …, search …      a command of pixdex
#     worker-pool …          the worker pool of a Flink TaskManager: python -P -m pipelines.worker_pool
#     python …, sh …, /…     that program
#     --id=… and the like    a worker: Beam's boot program, as a runner starts it
#     nothing, other flags   the launcher of a Flex Template, as Dataflow starts it
set -eu

case "${1-}" in
--id* | --provision_endpoint* | --logging_endpoint* | --artifact_endpoint* | --control_endpoint* | --semi_persist_dir* | --worker_pool*)
    exec /opt/apache/beam/boot "$@"
    ;;
-h | --help | -V | --version)
    exec pixdex "$@"
    ;;
'' | -*)
    exec /opt/google/dataflow/python_template_launcher "$@"
    ;;
worker-pool)
    shift
    exec python -P -m pipelines.worker_pool "$@"
    ;;
pixdex | python | python3 | sh | bash | /*)
    exec "$@"
    ;;
*)
    exec pixdex "$@"
    ;;
esac
