"""Prompts and published files: where they come from, how they are checked, which are drawn."""
