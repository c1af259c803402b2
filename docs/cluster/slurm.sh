#!/usr/bin/env bash
# One run on a Slurm cluster: Ray starts on all nodes of an allocation, tune-jobs runs on the first node, and Ray ends
# with it. Change the lines that begin with #SBATCH. From the top folder of the project, which all nodes can see, after
# `make install`:
#
#   sbatch docs/cluster/slurm.sh examples/digits.yaml --resources.gpus_per_trial 0.25
#
#SBATCH --job-name=tune-jobs
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=04:00:00
#SBATCH --exclusive
# Exclusive nodes: at the end `ray symmetric-run` ends every Ray process of the user on a node.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: sbatch docs/cluster/slurm.sh JOB [--key value ...]" >&2; exit 2; }

export PATH="$SLURM_SUBMIT_DIR/.venv/bin:$PATH"
# Others are on the same network. The token is created once, in the home folder that all nodes share.
export RAY_AUTH_MODE=token RAY_usage_stats_enabled=0
(umask 077 && ray get-auth-token --generate >/dev/null)
# Nodes may start minutes apart.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$head:$((20000 + SLURM_JOB_ID % 10000))"
# The dashboard, on the first node, listens only on loopback by default.
srun ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" \
  -- tune-jobs run "$@" --address "$address"
