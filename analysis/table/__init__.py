"""Rows as a table, checked, and what is made of them before any question is asked.

columns     names, types and meaning of the columns
rows        read from and written to csv, parquet and storage roots
checks      rows that contradict themselves are refused by name
lengths     T, the dense network's training in epochs, in one place
details     what of a stage no column has
groups      lines that agree in some columns, as numbers; medians within them
points      rows grouped over seeds; the chosen retraining time
spreads     what a point's accuracy and its spread are
metrics     what a row's accuracies measure, and how that is shown
text        numbers and tables as text and JSON
"""
