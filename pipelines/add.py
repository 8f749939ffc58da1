"""Adds every shard to the trained index, and stops there: whatever is missing before it + shard indexes.

On this machine:

    pixdex add --root ./photos --images ./pictures --encoder demo

On a Flink cluster, with a worker pool beside each TaskManager:

    pixdex add --root /shared/photos --images /shared/pictures --encoder demo \\
        --runner PortableRunner --job_endpoint flink-jobserver:8099 \\
        --environment_type EXTERNAL --environment_config localhost:50000

On Dataflow, with an image of deploy/Dockerfile:

    pixdex add --root gs://bucket/photos --images gs://bucket/pictures --encoder demo \\
        --runner DataflowRunner --project my-project --region europe-west1 --temp_location gs://bucket/temp \\
        --sdk_container_image my-registry/pixdex:0.1.0

Takes the same options as `pixdex build`. A shard index that is gone or cut short is made again. Go on with
`pixdex merge`, or with `pixdex build`, and the same options.
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
    return console.run(lambda: start("add", __doc__, arguments, "add"))


if __name__ == "__main__":
    process.run(main)
