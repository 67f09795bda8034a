"""What a flow run does beyond single stages: the order of the stages, GPUs, overrides of `params.yaml`, the tasks."""
