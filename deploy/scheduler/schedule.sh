#!/usr/bin/env bash
# Has Cloud Scheduler start pixdex's Flex Template on Dataflow every night.
#
#     PROJECT=my-project REGION=europe-west1 BUCKET=my-bucket IMAGE=my-registry/pixdex:0.1.0 \
#         ACCOUNT=pixdex@my-project.iam.gserviceaccount.com bash deploy/scheduler/schedule.sh
#
# What is run stands in launch.json beside this file, of the template that deploy/dataflow/template.sh makes: a reindex of
# a root that was built before, whose sources, encoder and index it knows.
#
# Run it again after a change: the schedule is brought up to date. The account needs the roles dataflow.developer and
# iam.serviceAccountUser. SCHEDULE and TIME_ZONE say when, half past two in UTC by default. Nights do not overlap:
# Dataflow refuses a second job of the name that is running.
set -euo pipefail
cd "$(dirname "$0")"

for name in PROJECT REGION BUCKET IMAGE ACCOUNT; do
    if [ -z "${!name:-}" ]; then
        echo "schedule.sh: $name is missing: name it as the first lines of this file show" >&2
        exit 2
    fi
done
if ! command -v gcloud >/dev/null; then
    echo "schedule.sh: gcloud is missing: install the Google Cloud CLI, and run gcloud auth login" >&2
    exit 1
fi

body=$(mktemp)
trap 'rm -f "$body"' EXIT
sed -e "s|@BUCKET@|$BUCKET|g" -e "s|@IMAGE@|$IMAGE|g" launch.json >"$body"

job=(pixdex-nightly "--project=$PROJECT" "--location=$REGION")
action=create headers=--headers
if gcloud scheduler jobs describe "${job[@]}" >/dev/null 2>&1; then
    action=update headers=--update-headers
fi
gcloud scheduler jobs "$action" http "${job[@]}" \
    "--schedule=${SCHEDULE:-30 2 * * *}" \
    "--time-zone=${TIME_ZONE:-Etc/UTC}" \
    "--uri=https://dataflow.googleapis.com/v1b3/projects/$PROJECT/locations/$REGION/flexTemplates:launch" \
    --http-method=POST \
    "$headers=Content-Type=application/json" \
    "--message-body-from-file=$body" \
    "--oauth-service-account-email=$ACCOUNT"
