"""DVC for the flow: the DAG, one stage brought up to date, the remote, what `dvc.lock` records, repair after a kill."""
