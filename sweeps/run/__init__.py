"""From a recipe's stages to results, on Ray Tune.

launch           what every command does: plan, train what is missing, show what there is
dispatcher       hands out the stages that are ready, longest chain first
tune_searcher    the same as Tune's Searcher
tune             one run of Tune over the graph
progress         the live view
tensorboard      a run a chain
summary          the table and figure at the end
provenance       which code and commit
ray_access       who can reach Ray: its token, its interfaces
ray_watch        notices that Ray itself has ended
"""
