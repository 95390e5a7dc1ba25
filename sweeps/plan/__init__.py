"""The stages of a sweep and what they will cost, before anything runs. No Ray.

chains      the pieces of recipes, and the tiny protocols of --smoke
graph       the stages, each once, parents first
estimate    the dry run: epochs, disk, hours
power       the differences between methods that the seeds can show
naming      titles of stages and names of chains
"""
