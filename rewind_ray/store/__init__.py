"""The storage: everything that sweeps keep, under one root that they share.

layout        the only module that builds a path under the root, or says what a file is by its path
opening       a root's file system, from a local path or a URI
patience      every request made again while the storage is away
files         whole files, written atomically and fsynced; reading with limits, listing
strict_json   json as data: nothing executed, everything limited
ledger        stages: their specs, rewind points and rows; the records of sweeps
checkpoint    a rewind point as bytes (the only module here that needs torch, with partial)
partial       an epoch broken off, kept
leases        which driver has a stage
control       what a running sweep is asked for: to pause, or to train fewer stages at once
housekeeping  how much of what, what no sweep needs, what is damaged

No module here imports Ray; all but two do without torch.
"""
