"""What the project measures of itself; each module with a `main` is run as `python -m benchmarks.NAME` (README.md)."""
