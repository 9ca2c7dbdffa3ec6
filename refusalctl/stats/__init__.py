"""Statistics and geometry as plain functions on numbers. No file, no model, no printing."""
