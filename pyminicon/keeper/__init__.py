"""The keeper: the process that has one detached container, as any embedding program has its own.

It is an interpreter without site and with few modules, in a session of its own. The container ends with it; it ends
with the container. Everybody else speaks with it over its socket (:mod:`pyminicon.detached`).
"""
