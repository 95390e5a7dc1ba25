"""What one types: recipes, a search, and commands around them.

quickstart compare search algorithm1 between_rewindings iterative_wrn    a module a command
mikler2022 renda2020 wang2023                                            the papers' figures
options        what all of them take
plan/          the stages, before anything runs
run/           from stages to results, on Ray Tune
commands/      python -m sweeps list | smoke | doctor | calibrate | storage
searching/     the search with Optuna over shared stages
"""
