"""From result rows to frontiers, verdicts, figures and a report. pandas; never torch, never Ray.

table/        rows, checked; points, which are rows grouped over seeds
questions/    what is asked of them: frontiers, headlines, comparisons, claims, fairness
draw/         figures of any points
papers/       the three papers' figures and tables, of any rows
reference/    the published results as rows
report/       all of it in one page
commands/     python -m analysis ...
"""
