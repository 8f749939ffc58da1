"""Embeds what a build would embed, and stops there: plan + embed.

On this machine:

    pixdex embed --root ./photos --images ./pictures --encoder demo

On a Flink cluster, with a worker pool beside each TaskManager:

    pixdex embed --root /shared/photos --images /shared/pictures --encoder demo \\
        --runner PortableRunner --job_endpoint flink-jobserver:8099 \\
        --environment_type EXTERNAL --environment_config localhost:50000

On Dataflow, with an image of deploy/Dockerfile:

    pixdex embed --root gs://bucket/photos --images gs://bucket/pictures --encoder demo \\
        --runner DataflowRunner --project my-project --region europe-west1 --temp_location gs://bucket/temp \\
        --sdk_container_image my-registry/pixdex:0.1.0

Takes the same options as `pixdex build`. Partitions that have their shard already are left alone. Of ready embeddings
(`--vectors`) every vector is checked and none is copied. Go on with `pixdex train`, or with `pixdex build`, and the
same options.
"""

import sys
from collections.abc import Sequence
from typing import Final

from pipelines.running.start import start
from pipelines.terminal import console, options, process

OPTIONS: Final = options.BUILD


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: start("embed", __doc__, arguments, "embed"))


if __name__ == "__main__":
    process.run(main)
