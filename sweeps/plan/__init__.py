"""What a sweep consists of, before anything runs. No Ray.

chains      pieces that recipes are made of, and the stand-ins of --smoke
graph       the stages, each once, parents first
estimate    the dry run: epochs, disk, hours, and what the seeds can't show
naming      what a stage and a chain are called where people read it
"""
