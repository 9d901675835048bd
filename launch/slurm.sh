#!/usr/bin/env bash
# A sweep over several nodes of a Slurm cluster, one process per node on all of its GPUs; sbatch launch/slurm.sh
# [FLAGFILE], from the repository's root. Stopped by --timeout_minutes, which FLAGFILE must set, it requeues itself and
# goes on where it was. Set FSPROBE_PYTHON if the environment is not .venv.
#SBATCH --job-name=fsprobe
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
flagfile=${1:-launch/slurm.cfg}
python=${FSPROBE_PYTHON:-.venv/bin/python}

# JAX would give each process one GPU: its number on the node
export JAX_LOCAL_DEVICE_IDS=${JAX_LOCAL_DEVICE_IDS:-$(seq -s, 0 $((${SLURM_GPUS_ON_NODE:-1} - 1)))}
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it from the job
code=0
# processes stop together, but the first still writes when the others are gone
srun --kill-on-bad-exit=0 "$python" -m fsprobe.sweep --flagfile="$flagfile" --distributed || code=$?
if [[ $code == 75 ]]; then # out of time, the rest is for the next run
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
