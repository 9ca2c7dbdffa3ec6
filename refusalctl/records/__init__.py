"""Everything that is written to a file or passes between steps, as typed records."""
