"""A sweep on a cluster of spot machines that come and go, with all that a cloud does to them.

The machines are namespaces of this one, with a network, processes and ``/tmp`` of their own.
Ray's own autoscaler starts and ends them, through a node provider (``provider``) that writes what
it wants into a folder, where the cloud (``cloud``) sees to it. ``python -m benchmarks.rehearsal``.
"""
