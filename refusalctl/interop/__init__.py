"""Formats of other tools: directions, answers and activations as plain values, written and read. Knows no store."""
