"""The command line: one thin file per command, which reads options, calls a method of a study and shows the result."""
