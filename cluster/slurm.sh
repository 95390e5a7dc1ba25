#!/bin/bash
# A sweep on Slurm's nodes, for the length of the job: Ray starts on all of them, and ends with it.
#
#   sbatch cluster/slurm.sh rewind-ray iterative-wrn --storage /shared/results
#
# From the repository's root, which all nodes share, like the storage; `make install` made .venv.
# Two minutes before its time is up a job saves its epochs; the same command continues.
# Its command is tested with Ray on one machine; never submitted to Slurm itself.

# ------------------------------------------------------------------------------ edit from here
# cores: at least one for each stage on a node, or its GPUs stay idle
#SBATCH --nodes=4
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
# ------------------------------------------------------------------------------------- to here
#SBATCH --job-name=rewind-ray
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --signal=TERM@120

set -eu
source .venv/bin/activate
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# without the limit of 30 seconds for all nodes to come, which a shared file system exceeds
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
(umask 077; [ -e ~/.ray/auth_token ] || ray get-auth-token --generate > /dev/null)
exec srun --kill-on-bad-exit ray symmetric-run --address "$head:6379" \
    --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_PER_TASK" -- "$@" --address auto
