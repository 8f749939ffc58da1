#!/usr/bin/env bash
# Builds the image and, of it, the Flex Template gs://BUCKET/templates/pixdex-build.json.
#
#     BUCKET=my-bucket IMAGE=my-registry/pixdex:0.1.0 \
#         ENCODERS=open_clip:ViT-B-32/laion2b_s34b_b79k bash deploy/dataflow/template.sh
#
# Run a job of it with `gcloud dataflow flex-template run`; deploy/README.md shows how.
set -euo pipefail
cd "$(dirname "$0")/../.."

for name in BUCKET IMAGE; do
    if [ -z "${!name:-}" ]; then
        echo "template.sh: $name is missing: name it as the first lines of this file show" >&2
        exit 2
    fi
done
for tool in docker gcloud; do
    if ! command -v "$tool" >/dev/null; then
        echo "template.sh: $tool is missing: install it, and log in to the registry of $IMAGE" >&2
        exit 1
    fi
done

docker build --file deploy/Dockerfile --tag "$IMAGE" --build-arg "ENCODERS=${ENCODERS:-demo}" .
docker push "$IMAGE"
gcloud dataflow flex-template build "gs://$BUCKET/templates/pixdex-build.json" \
    "--image=$IMAGE" --sdk-language=PYTHON --metadata-file=deploy/dataflow/metadata.json
