"""Containers that outlive who started them: where their state lies, and how their keepers are spoken with.

Nothing here launches a container: each has a process of its own for that (:mod:`pyminicon.keeper`).
"""
