"""`python -m refusalctl`."""

from refusalctl.cli.app import main

main()
