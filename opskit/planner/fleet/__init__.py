"""One queue for many hosts: what is due is put into it once, and carried out by whichever worker is free.

A *worker* is a process (``opskit worker``) on any host that sees the repository and reaches the clusters. The *queue*
is a PostgreSQL database that the workers share through Procrastinate. A *job* is one cluster's due backup. A *turn* is
a piece of work for all, such as planning, that one worker at a time takes.

Procrastinate is an extra: `opskit.planner` imports what needs it when it is asked for.
"""
