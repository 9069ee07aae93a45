"""opskit beside PostgreSQL's own tools, and other backup programs, on this machine: ``python -m bench``.

A *contest* is one piece of work (a backup, a restore …) that several *sides* do, one after the other, in *rounds*. What
counts is the ratio of opskit's time to another side's in the same round: seconds change with the machine and with
whatever else runs on it, ratios hardly do.
"""
