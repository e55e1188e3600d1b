#!/usr/bin/env bash
# verl on the 1-2 task without an accelerator: examples/verl/one_two.sh FOLDER NAME [OPTIONS OF VERL ...]
# FOLDER is what one_two_data.py has made. NAME's log and rollouts are written there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "$1" && pwd)
name=$2
shift 2
ranks=${RANKS:-1}

export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
export VERL_PLATFORM=cpu VERL_ENGINE_DEVICE=cuda VERL_USE_EXTERNAL_MODULES=${MODULES:-on_cpu}
export VERL_FILE_LOGGER_PATH="$folder/$name.jsonl"
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export RAY_USAGE_STATS_ENABLED=0 RAY_memory_monitor_refresh_ms=0

options=(
  # Ray is told of devices that are not there; verl counts them.
  trainer.device=cpu trainer.nnodes=1 trainer.n_gpus_per_node="$ranks"
  +ray_kwargs.ray_init.num_gpus="$ranks" ray_kwargs.ray_init.num_cpus=32
  +ray_kwargs.ray_init.include_dashboard=False +ray_kwargs.ray_init.object_store_memory=300000000
  transfer_queue.backend.SimpleStorage.num_data_storage_units=1
  # Float32, without kernels for GPUs.
  actor_rollout_ref.model.use_remove_padding=False actor_rollout_ref.model.enable_gradient_checkpointing=False
  +actor_rollout_ref.model.override_config.attn_implementation=sdpa
  actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.use_torch_compile=False
  actor_rollout_ref.actor.fsdp_config.use_torch_compile=False
  actor_rollout_ref.ref.fsdp_config.use_torch_compile=False
  actor_rollout_ref.rollout.dtype=float32
)
for model in actor ref; do
  for kind in param reduce buffer; do
    options+=("+actor_rollout_ref.$model.fsdp_config.mixed_precision.${kind}_dtype=fp32")
  done
done
options+=(
  # Few processes.
  data.dataloader_num_workers=0 reward.num_workers=1
  actor_rollout_ref.rollout.agent.num_workers=1
  # The task.
  data.train_files="$folder/train.parquet" data.val_files="$folder/val.parquet"
  data.train_batch_size=4 data.max_prompt_length=200 data.max_response_length=24 data.shuffle=False
  reward.custom_reward_function.path="$here/one_two_reward.py"
  actor_rollout_ref.model.path="$folder/model"
  actor_rollout_ref.rollout.name=transformers actor_rollout_ref.rollout.tensor_model_parallel_size=1
  actor_rollout_ref.rollout.n=8
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8
  actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=8
  actor_rollout_ref.actor.ppo_mini_batch_size=4 actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=32
  actor_rollout_ref.actor.optim.lr=1e-3
  # The objective: the KL of whole responses in the reward, a baseline alone.
  algorithm.adv_estimator=rloo algorithm.use_kl_in_reward=True
  algorithm.kl_penalty=kl algorithm.kl_ctrl.kl_coef=0.05
  # What is written.
  trainer.project_name=one-two trainer.experiment_name="$name"
  trainer.logger='["console","file"]' trainer.rollout_data_dir="$folder/$name-rollouts"
  trainer.default_local_dir="$folder/$name-checkpoints"
  trainer.val_before_train=False trainer.test_freq=-1 trainer.save_freq=-1 trainer.resume_mode=disable
  trainer.total_training_steps=20 trainer.total_epochs=1000
)
exec python -m verl.trainer.main_ppo "${options[@]}" "$@"
