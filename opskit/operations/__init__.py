"""What opskit does: plan, then execute, then a result. Everything long reports to a monitor and can be cancelled.

A *backup* brings a running cluster into the repository; a *download* brings one backup out as one file; a *restore*
puts its files back; a *restored copy* is such files, and the server that can be started from them.
"""
