"""Faults, one after the other, on real sweeps on real Ray processes of this machine.

Processes of Ray and of ours are killed and frozen, nodes vanish, the disk fills up, S3 is slow,
fails, or answers with old listings, and files of every kind are damaged and edited. Each sweep has
to end with the rows and the weights of an undisturbed run.

places     a storage from below: a small disk of its own, or a bucket of a server in this process
damage     what is done to files, and which of them still have it
processes  processes of this machine, from /proc
running    a sweep under way: its driver, started again where it ends as it may
faults     every fault: where it can happen, how often, and how it is done
verdict    what a sweep has left, against the undisturbed run
tally      what has happened so far, on disk and as a table
"""
