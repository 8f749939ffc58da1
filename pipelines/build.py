"""Builds an index: embed + train + add + merge + publish, as one Beam graph.

On this machine:

    pixdex build --root ./emoji --csv emoji.csv --image-column image --text-column description --encoder demo

With a real model (weights are downloaded once), a folder of pictures, and groups taken from file names:

    pixdex build --root ./photos --images ./pictures --encoder open_clip:ViT-B-32/laion2b_s34b_b79k \\
        --key-pattern '(?P<group>[^_]+)_(?P<name>.+)'

Of embeddings that are made already, in .npy or parquet files, which are read where they are and not copied; each row is
an item, found as FILE#ROW with what the metadata say of it:

    pixdex build --root ./laion --vectors './embeddings/img_emb/*.npy' --metadata './embeddings/metadata/*.parquet' \\
        --index-key OPQ64_256,IVF4096,PQ64

Of a folder of clip-retrieval, whose pictures and texts are one item a pair; the encoder makes vectors of queries:

    pixdex build --root ./laion --vectors ./embeddings --encoder open_clip:ViT-B-32/laion2b_s34b_b79k

On a Flink cluster, with a worker pool beside each TaskManager and a folder that all of them see:

    pixdex build --root /shared/photos --images /shared/pictures --encoder demo \\
        --runner PortableRunner --job_endpoint flink-jobserver:8099 \\
        --environment_type EXTERNAL --environment_config localhost:50000

On Dataflow, with an image of deploy/Dockerfile and all data on Cloud Storage; with --device cuda, workers that embed
have a GPU, of the kind that --accelerator names:

    pixdex build --root gs://bucket/photos --images gs://bucket/pictures --encoder demo \\
        --runner DataflowRunner --project my-project --region europe-west1 --temp_location gs://bucket/temp \\
        --sdk_container_image my-registry/pixdex:0.1.0

The command waits for the job and shows how it goes; with --no_wait_until_finish it ends when the job is submitted, and
its last line says no more than the generation that is being made.

A build that was stopped, anywhere and in any way, goes on where it was when the same command is run again. A root that
has a generation of the same request is left alone. The last line on stdout is one JSON object with the totals.
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
    return console.run(lambda: start("build", __doc__, arguments, "publish"))


if __name__ == "__main__":
    process.run(main)
