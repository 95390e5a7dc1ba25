"""What is asked of points and rows, a module a question.

pareto, fronts, attainment    which networks no other one beats
headline                      how small without a drop, or with at most a point
search_cost                   what it cost to find them
judge                         is a better than b, over the same seeds? the one engine
compare, claims               all pairs of methods; the papers' claims: both ask the judge
statistics                    intervals, corrections, power
fairness                      which comparisons are fair, after Wang et al. 2023
"""
