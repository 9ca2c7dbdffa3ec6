"""The pipeline. Each step finds its result in the store, or computes it with whatever it needs first."""
