"""The commands that train: ``python -m sweeps.NAME`` and ``python -m sweeps COMMAND``.

quickstart compare search algorithm1 between_rewindings iterative_wrn    one module per command
mikler2022 renda2020 wang2023                                            the papers' figures
options        the options that all of them take
plan/          the graph of stages and its cost, before anything runs
run/           from the graph to results, on Ray Tune
commands/      python -m sweeps list | smoke | doctor | calibrate | storage
searching/     the Optuna search over shared stages
"""
