"""Reproduce a study: every run of a table of the paper, or of one's own, by one command that can be given again.

`study` reads what is wanted, `planning` resolves and checks it, `grid` runs what is missing through an executor
(`local`, `on_ray`, `on_slurm`, or one's own), `watching` and `display` show how far it is, `costs` say what it takes.
"""
