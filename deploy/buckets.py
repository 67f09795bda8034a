"""Makes the buckets that DVC_REMOTE and MLFLOW_ARTIFACTS_DESTINATION name, where they are absent."""

import os
from urllib.parse import urlsplit

import boto3

if __name__ == "__main__":
    store = boto3.client("s3")
    there = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
    wanted = {urlsplit(os.environ[name]).netloc for name in ("DVC_REMOTE", "MLFLOW_ARTIFACTS_DESTINATION")}
    for bucket in sorted(wanted - there):
        store.create_bucket(Bucket=bucket)
        print(f"made the bucket {bucket}")
