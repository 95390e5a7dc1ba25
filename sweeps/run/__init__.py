"""From a recipe's stages to results, on Ray Tune.

launch           what every command does: plan, train what is missing, show the results
dispatcher       hands out the stages that are ready, longest chain first
tune_searcher    the dispatcher behind Tune's Searcher interface
ray_start        starts Ray, or connects to it
tune             runs of Tune over the graph
slots            ends idle workers; tells which one Ray killed for a node's memory
capacity         what a cluster has room for, and what it can still start
live_view        progress on a terminal, or as plain lines
sweep_log        what a driver prints, kept in the storage
tensorboard      one run for each chain
summary          the table and figure at the end
provenance       version of the code
ray_access       who can reach Ray: its token, its interfaces
cluster_watch    what the autoscaler starts and refuses, the cost, and a sweep's limits
start_watch      notices machines on which workers never start
draining         takes a node out of a cluster
processes        of this machine, from /proc
ray_watch        notices that Ray itself has ended
"""
