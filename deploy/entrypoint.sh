#!/bin/sh
# In a container: give the clone its DVC remote, and run the command where prefect.yaml looks for the clone, in $PWD.
set -e
cd /alignformer
export PWD
if [ -n "$DVC_REMOTE" ]; then
    dvc remote add --quiet --local --force --default store "$DVC_REMOTE"
fi
exec "$@"
