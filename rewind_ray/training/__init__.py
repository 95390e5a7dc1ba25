"""A stage from its start to its row.

stage         the table of contents: start_stage, run_epoch until finished, run_stage for all of it
graph         stages and their ancestors, each once, parents first
run           what they pass around: the job, the runtime, network, optimizer and masks
epoch         the hot loop: train_epoch, evaluate
update        one update, a function over tensors that stay where they are
replay        updates and forward passes that a GPU repeats from a recording
compiling     the same updates, compiled by Inductor
allocator     how a CPU's memory is kept from one update to the next
arithmetic    precision and determinism, switched on for a stage and restored
recalibrate   BatchNorm statistics measured anew after pruning
row           the result row
memory        what counts as out of memory, and a process's share of it
failures      an exception as text, and whether trying again may help
"""
