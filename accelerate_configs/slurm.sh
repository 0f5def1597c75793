#!/usr/bin/env bash
# Train on the machines of a SLURM cluster, from the project's folder, which all machines must see:
#
#     sbatch --nodes 2 --gpus-per-node 4 accelerate_configs/slurm.sh train_seg.py --norm evo --output_dir runs/evo
#     sbatch --nodes 2 --gpus-per-node 4 accelerate_configs/slurm.sh train_seg.py --resume_from_checkpoint runs/evo
#
# The second line continues a run that reached its time limit. Change the lines below to what your cluster wants.
#SBATCH --job-name=minicity-seg
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@300
#SBATCH --output=slurm-%j.out
# ntasks-per-node: one launcher a machine, which starts a process for each GPU. cpus-per-task: for these processes and
# their workers. signal: five minutes before the end, so that training writes a checkpoint.
set -euo pipefail

if [ $# -eq 0 ]; then
    echo "usage: sbatch accelerate_configs/slurm.sh train_seg.py [FLAGS]" >&2
    exit 2
fi
: "${SLURM_JOB_ID:?start this script with sbatch}"
: "${SLURM_GPUS_ON_NODE:?ask for GPUs with --gpus-per-node}"
: "${SLURM_CPUS_PER_TASK:?ask for cores with --cpus-per-task}"

machines=$SLURM_JOB_NUM_NODES
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${hosts%%$'\n'*}  # with a pipe to head, scontrol may die of SIGPIPE, which ends the job
launch=(
    accelerate launch
    --config_file accelerate_configs/two_machines.yaml  # the flags below replace what it says about machines
    --num_machines "$machines"
    --num_processes $((machines * SLURM_GPUS_ON_NODE))
    --main_process_ip "$first"
    --main_process_port $((20000 + SLURM_JOB_ID % 10000))  # jobs that share a machine must not share a port
)
# srun does not take over cpus-per-task by itself. Each machine finds its own rank: the variable is not expanded here.
# shellcheck disable=SC2016
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c 'exec "${@:1:2}" --machine_rank "$SLURM_NODEID" "${@:3}"' bash "${launch[@]}" "$@"
