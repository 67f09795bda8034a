"""The command that scores predictions of systems that others made."""
