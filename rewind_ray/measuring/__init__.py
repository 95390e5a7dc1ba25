"""How fast a device trains, for ``calibrate`` and the benchmarks.

throughput    a built-in network on noise: seconds of an epoch, against its bare loop
packing       how many stages a device trains best side by side
"""
