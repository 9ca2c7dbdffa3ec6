"""Sharing artifacts with their lineage: folders, archives, object stores, the Hugging Face hub."""
