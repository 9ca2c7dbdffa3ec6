"""What the store and long work promise, put to the test: kills, crowds, rot, full disks, hostile files, many artifacts.

Each part is a module with `SHORT` and `FULL` (the `n` of a bounded and of a whole run), `N` (what `n` counts) and
`run(work: Work) -> list[Row]`. It draws everything from `work.seed`, writes below `work.folder` alone, and tells
figures, each with what was promised of it. `__main__.PARTS` lists the modules.
"""
