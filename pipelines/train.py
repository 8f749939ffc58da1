"""Trains the index of a build, and stops there: whatever is missing before it + sample to train.

On this machine:

    pixdex train --root ./photos --images ./pictures --encoder demo --index-key IVF1024,Flat

On a Flink cluster, with a worker pool beside each TaskManager:

    pixdex train --root /shared/photos --images /shared/pictures --encoder demo --index-key IVF1024,Flat \\
        --runner PortableRunner --job_endpoint flink-jobserver:8099 \\
        --environment_type EXTERNAL --environment_config localhost:50000

On Dataflow, with an image of deploy/Dockerfile:

    pixdex train --root gs://bucket/photos --images gs://bucket/pictures --encoder demo --index-key IVF1024,Flat \\
        --runner DataflowRunner --project my-project --region europe-west1 --temp_location gs://bucket/temp \\
        --sdk_container_image my-registry/pixdex:0.1.0

Takes the same options as `pixdex build`. Go on with `pixdex add`, or with `pixdex build`, and the same options.
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
    return console.run(lambda: start("train", __doc__, arguments, "train"))


if __name__ == "__main__":
    process.run(main)
