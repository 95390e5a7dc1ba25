"""Figures: panels and lines of any points, whatever the question.

drawing            sheets, panels, lines, legends
figures            frontiers and search costs of any rows
learning_curves    accuracy over epochs, along a chain
"""
