//! Words of other trainers for what is set here: transformers, TRL, PEFT, torchtune, nanoGPT, Lightning.

/// What a word of another trainer is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// This key.
    Key(&'static str),
    /// No key; what there is instead.
    Advice(&'static str),
}

use Meaning::{Advice, Key};

/// Words, each list with what it means. A word that is a key of the section where it stands never gets here.
const WORDS: &[(&[&str], Meaning)] = &[
    (&["lr", "max_lr", "peak_lr", "base_lr"], Key("optimizer.learning_rate")),
    (&["min_lr", "lr_min", "eta_min"], Key("schedule.min_learning_rate")),
    (&["lr_scheduler_type", "lr_scheduler", "scheduler", "lr_schedule", "decay_lr"], Key("schedule.kind")),
    (&["warmup", "warmup_ratio", "warmup_iters", "num_warmup_steps", "lr_warmup_steps"], Key("schedule.warmup_steps")),
    (&["lr_decay_iters", "lr_decay_steps", "decay_iters"], Key("schedule.decay_steps")),
    (&["optim", "optimizer_type", "optimizer_name"], Key("optimizer.kind")),
    (&["adam_beta1"], Key("optimizer.beta1")),
    (&["adam_beta2"], Key("optimizer.beta2")),
    (&["betas"], Advice("set optimizer.beta1 and optimizer.beta2")),
    (&["adam_epsilon", "adam_eps", "eps"], Key("optimizer.epsilon")),
    (&["wd"], Key("optimizer.weight_decay")),
    (
        &["max_grad_norm", "grad_clip", "clip_grad", "clip_grad_norm", "gradient_clip_val", "gradient_clipping"],
        Key("optimizer.clip_norm"),
    ),
    (
        &[
            "batch",
            "batch_size",
            "bs",
            "per_device_train_batch_size",
            "per_device_batch_size",
            "train_batch_size",
            "micro_batch_size",
            "device_batch_size",
            "local_batch_size",
        ],
        Key("train.micro_batch"),
    ),
    (&["global_batch_size", "total_batch_size"], Advice("it is train.micro_batch times train.accumulation")),
    (
        &["per_device_eval_batch_size", "eval_batch_size", "val_batch_size"],
        Advice("validation takes batches of train.micro_batch"),
    ),
    (
        &["gradient_accumulation_steps", "gradient_accumulation", "grad_accum", "grad_accum_steps"],
        Key("train.accumulation"),
    ),
    (&["accumulate_grad_batches", "accumulation_steps"], Key("train.accumulation")),
    (
        &["max_steps", "max_iters", "num_steps", "total_steps", "train_steps", "num_train_steps", "iterations"],
        Key("train.steps"),
    ),
    (
        &["epochs", "epoch", "num_epochs", "num_train_epochs", "max_epochs"],
        Advice("length is counted in steps: set train.steps"),
    ),
    (
        &[
            "seq_len",
            "seq_length",
            "block_size",
            "max_seq_len",
            "max_seq_length",
            "max_length",
            "context_length",
            "context_size",
            "ctx_len",
            "n_ctx",
            "cutoff_len",
            "model_max_length",
        ],
        Key("train.sequence_length"),
    ),
    (&["n_positions", "max_position", "max_positions"], Key("model.max_position_embeddings")),
    (&["n_layer", "n_layers", "num_layers", "layers", "depth"], Key("model.num_hidden_layers")),
    (&["n_head", "n_heads", "num_heads", "heads"], Key("model.num_attention_heads")),
    (&["n_embd", "n_embed", "d_model", "hidden_dim", "embed_dim", "dim"], Key("model.hidden_size")),
    (&["d_ff", "ffn_dim", "mlp_dim"], Key("model.intermediate_size")),
    (&["num_experts", "n_experts", "num_local_experts"], Key("model.n_routed_experts")),
    (&["vocab", "n_vocab"], Key("model.vocab_size")),
    (
        &["num_key_value_heads", "n_kv_heads", "num_kv_heads"],
        Advice("latent attention has no key-value heads of its own; model.kv_lora_rank sets the width of its cache"),
    ),
    (
        &["dropout", "hidden_dropout", "resid_pdrop"],
        Advice("set model.attention_dropout, model.embed_dropout and model.resid_dropout"),
    ),
    (&["attn_pdrop", "attention_probs_dropout_prob"], Key("model.attention_dropout")),
    (&["embd_pdrop"], Key("model.embed_dropout")),
    (&["bias"], Advice("this network has no biases")),
    (&["eval_steps", "eval_strategy", "evaluation_strategy", "val_check_interval"], Key("train.eval_interval")),
    (&["eval_iters", "max_eval_samples"], Key("train.eval_batches")),
    (
        &["save_steps", "save_interval", "save_strategy", "save_every", "checkpoint_every", "ckpt_interval"],
        Key("train.checkpoint_interval"),
    ),
    (&["save_total_limit", "keep_last"], Key("train.keep")),
    (&["load_best_model_at_end", "save_best"], Key("train.keep_best")),
    (&["logging_steps", "log_interval", "log_every", "log_every_n_steps"], Key("log.interval")),
    (
        &["report_to", "wandb", "wandb_project", "wandb_log", "logging_dir"],
        Advice("rows go to metrics.jsonl and, with log.tensorboard, to TensorBoard's files; nothing else is served"),
    ),
    (&["bf16", "fp16", "tf32", "dtype", "torch_dtype", "mixed_precision", "amp"], Key("train.precision")),
    (
        &[
            "gradient_checkpointing",
            "activation_checkpointing",
            "enable_activation_checkpointing",
            "checkpoint_activations",
        ],
        Key("train.recompute"),
    ),
    (&["data_seed", "random_seed"], Key("train.seed")),
    (&["output_dir", "out_dir", "run_name"], Advice("the run folder is the argument --out")),
    (&["resume_from_checkpoint", "init_from"], Advice("a run goes on by the argument --resume")),
    (&["model_name_or_path", "model_name", "pretrained"], Advice("weights to begin with are the argument --model")),
    (
        &["dataset", "dataset_name", "dataset_path", "train_file", "data_path", "data_dir", "train_data"],
        Key("data.path"),
    ),
    (&["validation_file", "eval_dataset", "val_data"], Key("data.val_path")),
    (&["dataset_text_field", "text_column"], Key("data.text_field")),
    (&["tokenizer_name", "tokenizer_path"], Key("data.tokenizer")),
    (&["val_split", "val_set_size", "validation_split", "eval_fraction"], Key("data.val_fraction")),
    (&["lora_r", "lora_rank", "r"], Key("lora.rank")),
    (&["lora_alpha"], Key("lora.alpha")),
    (&["target_modules", "lora_target_modules", "lora_targets"], Key("lora.targets")),
    (&["lora_dropout"], Advice("adapters have no dropout")),
    (&["use_rslora", "use_dora"], Advice("adapters are scaled by lora.alpha / lora.rank")),
    (&["neftune_noise_alpha"], Advice("embeddings get no noise")),
    (&["group_by_length"], Advice("conversations share rows, by sft.packing")),
    (&["early_stopping_patience"], Advice("no run stops early; train.keep_best keeps the best checkpoint")),
    (&["use_vllm"], Advice("the training program draws its answers itself")),
    (&["precompute_ref_log_probs"], Advice("`hadal dpo` always makes them before it trains")),
    (&["use_peft", "lora", "adapter", "finetuning_type"], Advice("adapters are on with lora.rank above 0")),
    (
        &["load_in_4bit", "load_in_8bit", "quantization", "quantize"],
        Advice("weights stay whole; optimizer.kind=adamw8bit keeps the moments in 8 bits"),
    ),
    (
        &["assistant_only_loss", "completion_only_loss", "train_on_input", "train_on_inputs", "mask_prompt"],
        Key("sft.sft_mask"),
    ),
    (&["sample_packing", "pack", "packed"], Key("sft.packing")),
    (&["max_new_tokens", "max_tokens", "max_response_length", "response_length"], Key("rollout.max_completion_length")),
    (&["max_prompt_length"], Advice("a prompt and its answer share train.sequence_length")),
    (&["group_size", "num_return_sequences", "n_generations"], Key("rollout.num_generations")),
    (&["reward_funcs", "reward_functions", "reward_func"], Key("reward.functions")),
    (&["reward_weights"], Key("reward.weights")),
    (&["reward_model", "reward_model_path"], Key("reward.model")),
    (&["kl_beta", "kl_coeff", "init_kl_coef"], Advice("it is grpo.beta, or ppo.kl_coef")),
    (&["clip_range", "clip_epsilon", "epsilon_low"], Advice("it is grpo.epsilon, or ppo.cliprange")),
    (&["gae_lambda"], Key("ppo.lam")),
    (&["ppo_epochs", "num_ppo_epochs"], Key("rollout.num_iterations")),
    (
        &["device", "cuda", "use_cpu", "no_cuda", "device_map"],
        Advice("the device is chosen by --backend and --adapter"),
    ),
    (
        &["num_gpus", "n_gpu", "gpus", "devices", "world_size", "deepspeed", "fsdp", "ddp", "strategy"],
        Advice("a run has one device"),
    ),
    (
        &[
            "compile",
            "torch_compile",
            "flash_attention",
            "use_flash_attn",
            "attn_implementation",
            "use_cache",
            "use_liger_kernel",
        ],
        Advice("there is one implementation, and nothing to choose"),
    ),
    (
        &["num_workers", "dataloader_num_workers", "pin_memory"],
        Advice("batches are made ahead on a thread of their own"),
    ),
    (&["push_to_hub", "hub_model_id", "hub_token"], Advice("nothing is sent anywhere; `hadal export` writes a folder")),
];

/// What `word`, in any section and with hyphens or not, means here, if it is one of another trainer.
pub fn meaning(word: &str) -> Option<Meaning> {
    let word = word.to_lowercase().replace('-', "_");
    WORDS.iter().find(|(words, _)| words.contains(&word.as_str())).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::super::layers::keys;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_word_means_one_thing_and_every_key_that_is_named_exists() {
        let known: BTreeSet<String> = keys().collect();
        let mut seen = BTreeSet::new();
        for (words, meaning) in WORDS {
            words.iter().for_each(|word| assert!(seen.insert(word), "{word}"));
            let text = match meaning {
                Key(key) => {
                    assert!(known.contains(*key), "{key}");
                    continue;
                }
                Advice(text) => text,
            };
            let sections: BTreeSet<&str> = known.iter().filter_map(|key| key.split('.').next()).collect();
            let dotted = text.split([' ', ',', ';', '=']).filter(|word| {
                word.split_once('.').is_some_and(|(section, key)| sections.contains(section) && !key.is_empty())
            });
            dotted.for_each(|word| assert!(known.contains(word), "{word} in {text:?}"));
        }
    }

    #[test]
    fn words_that_other_trainers_have_mean_what_they_mean_there() {
        for (word, key) in [
            ("lr", "optimizer.learning_rate"),
            ("per_device_train_batch_size", "train.micro_batch"),
            ("max_steps", "train.steps"),
            ("seq_len", "train.sequence_length"),
            ("block_size", "train.sequence_length"),
            ("max-seq-length", "train.sequence_length"),
            ("max_grad_norm", "optimizer.clip_norm"),
            ("grad_clip", "optimizer.clip_norm"),
            ("warmup_ratio", "schedule.warmup_steps"),
            ("eval_steps", "train.eval_interval"),
            ("save_total_limit", "train.keep"),
            ("BF16", "train.precision"),
            ("gradient_checkpointing", "train.recompute"),
            ("n_embd", "model.hidden_size"),
        ] {
            assert_eq!(meaning(word), Some(Key(key)), "{word}");
        }
        for word in ["num_train_epochs", "dropout", "report_to", "deepspeed"] {
            assert!(matches!(meaning(word), Some(Advice(_))), "{word}");
        }
        assert_eq!(meaning("steps"), None);
    }
}
