"""Results made readable: the nouns are *view* (a small thing shown in a notebook), *chart* and *page*.

A *report* is the executed copy of a runbook; a *page* is its HTML.
"""
