#!/bin/sh
# In a container: gives the clone its DVC remote, and runs the command in the clone. prefect.yaml looks for it in $PWD.
set -e
cd /alignformer
export PWD
if [ -n "$DVC_REMOTE" ]; then
    dvc remote add --quiet --local --force --default store "$DVC_REMOTE"
fi
exec "$@"
