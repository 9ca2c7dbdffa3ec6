"""Runs that others published, taken over as artifacts."""
