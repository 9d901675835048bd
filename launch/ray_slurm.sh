#!/usr/bin/env bash
# An extraction over the nodes of a Slurm job, which form a Ray cluster while it runs; sbatch launch/ray_slurm.sh FLAGS
# of extract.run, from the repository's root (--flagfile=launch/extract_mtat.cfg, say). Two minutes before the job's
# limit it requeues itself and goes on where it was. Set FSPROBE_PYTHON if the environment is not .venv.
#SBATCH --job-name=fsprobe-extract
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# With GPUs: sbatch --gpus-per-node=4 launch/ray_slurm.sh …
set -euo pipefail
python=${FSPROBE_PYTHON:-.venv/bin/python}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000)) # jobs that share a node do not meet
export RAY_USAGE_STATS_ENABLED=0 RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
export PATH=$(dirname "$python"):$PATH # symmetric-run starts `ray`
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token} # in ~/.ray, which all nodes see
ray get-auth-token --generate >/dev/null 2>&1 || true # Ray before 2.52 has no tokens
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it from the job
resources=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}")
[[ -z ${SLURM_GPUS_ON_NODE:-} ]] || resources+=(--num-gpus="$SLURM_GPUS_ON_NODE")

srun ray symmetric-run --address="$head:$port" --min-nodes="$SLURM_NNODES" "${resources[@]}" -- \
  "$python" -m extract.run --engine=ray --ray_address="$head:$port" "$@" &
trap 'scontrol requeue "$SLURM_JOB_ID"' TERM
wait $! # a signal ends the wait; the store is sound at any moment
