"""The process in which a runbook's cells run: ``python -m ipykernel``, with little garbage collected."""

from opskit.collector import collect_seldom

if __name__ == "__main__":
    collect_seldom()
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()
