"""Time and memory of whole updates of a DeepSeek-V2 model in PyTorch, by the transformers package.

The peer of `hadal bench step`: the same dimensions (read from assets/configs), random weights, random tokens,
and forward, backward, clipping and AdamW in every update. Needs Python 3.11, torch and transformers 5:

    python benches/peers/transformers_step.py --config seed --precision bf16-autocast
"""

import argparse
import contextlib
import json
import platform
import statistics
import sys
import time
import tomllib
from pathlib import Path

try:
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, DeepseekV2Config
except ImportError as error:
    sys.exit(f"error: {error}; install torch and transformers 5 or newer")

PRESETS = Path(__file__).resolve().parents[2] / "assets" / "configs"
# Keys of [model] that mean the same to transformers. Of the others, `rope_theta` goes into `rope_parameters`, dropout
# and router weights are refused where they would differ, and the balance loss is left out: transformers has none.
MODEL_KEYS = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads kv_lora_rank q_lora_rank qk_nope_head_dim "
    "qk_rope_head_dim v_head_dim intermediate_size moe_intermediate_size n_routed_experts n_shared_experts "
    "num_experts_per_tok first_k_dense_replace topk_method n_group topk_group norm_topk_prob rms_norm_eps "
    "routed_scaling_factor max_position_embeddings tie_word_embeddings initializer_range"
).split()
# What hadal takes where neither preset nor command line says otherwise.
TRAIN = {"micro_batch": 8, "sequence_length": 512, "accumulation": 1}
OPTIMIZER = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "weight_decay": 0.1,
             "decay_all": False, "clip_norm": 1.0}
MEMORY, USAGE = 3, 2  # exit codes, those of hadal


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="seed", help="tiny, small, seed, or a folder with a config.json")
    parser.add_argument("--batch", type=positive, help="sequences in a pass; the preset's by default")
    parser.add_argument("--length", type=positive, help="tokens in a sequence; the preset's by default")
    parser.add_argument("--accumulation", type=positive, help="passes in an update; the preset's by default")
    parser.add_argument("--precision", default="bf16-autocast", choices=["f32", "bf16-autocast", "bf16"],
                        help="f32 without tf32; bf16 products over f32 weights; weights and moments in bf16 too")
    parser.add_argument("--compile", action="store_true", help="forward and backward through torch.compile")
    parser.add_argument("--experts", default="grouped_mm", choices=["grouped_mm", "batched_mm", "eager"],
                        help="experts_implementation of transformers")
    parser.add_argument("--steps", type=positive, default=20, help="updates that are timed")
    parser.add_argument("--warm-up", type=positive, default=5, help="updates before, which are not")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    return parser.parse_args()


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def fail(reason: str, code: int = USAGE) -> None:
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(code)


def configuration(name: str) -> tuple[DeepseekV2Config, dict, dict]:
    """The model, and the [train] and [optimizer] sections over their defaults."""
    if (Path(name) / "config.json").is_file():
        return DeepseekV2Config.from_pretrained(name), TRAIN, OPTIMIZER
    path = PRESETS / f"{name}.toml"
    if not path.is_file():
        fail(f"{name}: neither a folder with a config.json nor a preset of {PRESETS}")
    preset = tomllib.loads(path.read_text())
    if "preset" in preset:
        fail(f"{name}: lies over another preset; name tiny, small or seed")
    model = preset["model"]
    dropout = any(model.get(f"{place}_dropout") for place in ("attention", "embed", "resid"))
    if dropout or model.get("router_weights", "hf") != "hf":
        fail(f"{name}: transformers has neither its router weights nor its dropout")
    known = {"q_lora_rank": None, **{key: model[key] for key in MODEL_KEYS if key in model}}
    rope = {"rope_type": "default", "rope_theta": model.get("rope_theta", 10_000.0)}
    config = DeepseekV2Config(**known, rope_parameters=rope)
    return config, TRAIN | preset.get("train", {}), OPTIMIZER | preset.get("optimizer", {})


def build(args: argparse.Namespace, config: DeepseekV2Config, settings: dict):
    """The model in training mode and its optimizer."""
    # What an adapter does to f32 products by itself is switched off: tf32 has the mantissa of f16.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(1)
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    with torch.device(args.device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa", experts_implementation=args.experts
        )
    model.train()
    groups = {settings["weight_decay"]: [], 0.0: []}
    for parameter in model.parameters():
        decays = settings["decay_all"] or parameter.dim() >= 2
        groups[settings["weight_decay"] if decays else 0.0].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": members, "weight_decay": decay} for decay, members in groups.items() if members],
        lr=settings["learning_rate"],
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["epsilon"],
        fused=True,
    )
    return model, optimizer


def measure(args: argparse.Namespace, config: DeepseekV2Config, settings: dict) -> dict:
    """Seconds of every timed update, the last loss, and peak memory."""
    model, optimizer = build(args, config, settings)
    # One token more than the model reads: every position has a target.
    shape = (args.accumulation, args.batch, args.length + 1)
    tokens = torch.randint(config.vocab_size, shape, device=args.device)
    autocast = args.precision == "bf16-autocast"
    context = torch.autocast(args.device, torch.bfloat16) if autocast else contextlib.nullcontext()

    def loss_of(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=ids, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    forward = torch.compile(loss_of) if args.compile else loss_of

    def update() -> torch.Tensor:
        total = torch.zeros((), device=args.device)
        for window in tokens:
            with context:
                loss = forward(window[:, :-1], window[:, 1:]) / args.accumulation
            loss.backward()
            total += loss.detach()
        if settings["clip_norm"] > 0.0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
        optimizer.step()
        optimizer.zero_grad()
        return total

    wait = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    first = float(update())
    for _ in range(args.warm_up - 1):
        update()
    seconds = []
    for _ in range(args.steps):
        wait()
        start = time.perf_counter()
        loss = update()
        wait()
        seconds.append(time.perf_counter() - start)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "tokens_per_second": args.accumulation * args.batch * args.length / statistics.median(seconds),
        "first_loss": first,
        "last_loss": float(loss),
        **peak_memory(args.device),
    }


def peak_memory(device: str) -> dict:
    """In MiB: on a card what tensors held, and what was taken from the driver for them; on the CPU the process."""
    if device == "cuda":
        held, taken = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return {"peak_allocated_mib": held / 2**20, "peak_reserved_mib": taken / 2**20}
    try:
        import resource
    except ImportError:  # not on Windows
        return {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_resident_mib": peak / (2**20 if sys.platform == "darwin" else 2**10)}


def machine(device: str) -> str:
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads"


def main() -> None:
    args = arguments()
    if int(transformers.__version__.split(".")[0]) < 5:
        fail(f"transformers {transformers.__version__} knows no experts_implementation; install version 5 or newer")
    if args.device == "cuda" and not torch.cuda.is_available():
        fail("--device cuda: this torch finds no CUDA device")
    config, train, settings = configuration(args.config)
    args.batch = args.batch or train["micro_batch"]
    args.length = args.length or train["sequence_length"]
    args.accumulation = args.accumulation or train["accumulation"]
    if args.length > config.max_position_embeddings:
        fail(f"--length {args.length}: the model has {config.max_position_embeddings} positions")
    setting = {key: getattr(args, key) for key in ("config", "batch", "length", "accumulation", "precision", "compile",
                                                   "experts", "steps", "warm_up")}
    about = {"device": machine(args.device), "torch": torch.__version__, "transformers": transformers.__version__,
             "python": platform.python_version(), **setting}
    size = f"{args.accumulation} x {args.batch} x {args.length} tokens in {args.precision}"
    try:
        result = about | measure(args, config, settings)
    except torch.OutOfMemoryError:
        fail(f"out of memory: {size} do not fit on {about['device']}; lower --batch", MEMORY)
    except (MemoryError, RuntimeError) as error:
        # The CPU's allocator has no exception of its own.
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            fail(f"out of memory: {size} do not fit into this machine; lower --batch", MEMORY)
        raise
    if args.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<20} {value:,.4f}" if isinstance(value, float) else f"{name:<20} {value}")


if __name__ == "__main__":
    main()
