"""Figures: panels and lines of any points, whatever the question.

looks              colour, mark and dashes of a line; the names of methods
panels             a pair of axes: what it shows, how it is drawn
drawing            pages of panels with one legend and one note; files
figures            frontiers and search costs of any rows
learning_curves    accuracy over epochs, along a chain
papers/            the three papers' figures and tables, of own rows, published ones or both
"""
