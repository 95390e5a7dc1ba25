"""From result rows to frontiers, verdicts, figures and a report. pandas; never torch, never Ray.

table/        rows, checked; points, which are rows grouped over seeds; chosen retraining times
questions/    what is asked of them: frontiers, headlines, comparisons, claims, fairness
draw/         figures of any points, and draw/papers: every figure and table of the three papers
reference/    the papers' published results, as rows
report/       all of it in one page
commands/     rewind-ray analysis ...

The way of a row: table.rows -> table.checks -> table.points -> questions -> draw or report.
"""
