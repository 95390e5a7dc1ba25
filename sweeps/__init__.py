"""The commands that train: ``rewind-ray NAME``, or ``python -m sweeps.NAME``.

quickstart compare prune search algorithm1                    one module per command
iterative_wrn between_rewindings mikler2022 renda2020 wang2023
entry          rewind-ray: all commands of the project under one name; completion for shells
options        the options that all of them take
plan/          the graph of stages and its cost, before anything runs
run/           from the graph to results, on Ray Tune
commands/      rewind-ray list | smoke | doctor | calibrate | status | storage
searching/     the Optuna search over shared stages
"""

from rewind_ray.importing import check_not_hidden

check_not_hidden("analysis", "trainables")
