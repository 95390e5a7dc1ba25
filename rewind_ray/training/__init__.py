"""A stage from its start to its row.

stage         the table of contents: start_stage, run_epoch until finished, run_stage for all of it
graph         stages and their ancestors, each once, parents first
run           what they pass around: the job, the runtime, network, optimizer and masks
epoch         the hot loop: train_epoch, evaluate
arithmetic    precision and determinism, switched on for a stage and restored
recalibrate   BatchNorm statistics measured anew after pruning
row           the result row
failures      an exception as text, and whether trying again may help
"""
