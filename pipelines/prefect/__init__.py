"""Prefect for the flow: servers, processes, flow runs, claims of stages, and what the UI shows."""
