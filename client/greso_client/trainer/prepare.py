"""What a training needs, made from its options: the task, the model, the engine, the learner."""

import importlib.util
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from greso_client.trainer import addition
from greso_client.trainer.checkpoint import Checkpoint
from greso_client.trainer.engine import Engine, EngineError, Sampling
from greso_client.trainer.evaluate import accuracy
from greso_client.trainer.grpo import Learner, Objective
from greso_client.trainer.jsonl import Fields, load_problems, without_repeats
from greso_client.trainer.model import (
    best_device,
    context_length,
    end_tokens,
    load_model,
    load_tokenizer,
    prompt_encoder,
)
from greso_client.trainer.options import Options
from greso_client.trainer.ranks import Ranks
from greso_client.trainer.rewards import exact_match, math_match
from greso_client.trainer.task import Encode, Task, TaskError, hold_out, without_long_prompts
from greso_client.trainer.torch_engine import TorchEngine

WARM_START = 0.35  # held-out accuracy at which the built-in model can learn from rewards; docs/results.md starts there
WARM_START_CHECK = 5  # optimiser steps between looks at it
WARM_START_LIMIT = 400  # optimiser steps; it takes 140-180


@dataclass(frozen=True, slots=True)
class Policy:
    """The model that is trained, its tokenizer, and how a question becomes a prompt."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    encode: Encode


def make_task(options: Options) -> Task:
    """Load the problems, or draw the built-in ones. Raises `TaskError`, `OSError`."""
    if options.data is None:
        return addition.make_task(options.seed)
    if options.reward == "math" and importlib.util.find_spec("math_verify") is None:
        raise TaskError(
            "math-verify is not installed; run in the checkout: pip install '.[trainer]', or take --reward exact"
        )
    fields = Fields(options.question_field, options.answer_field, options.id_field)
    pool = load_problems(options.data, fields, template=options.template)
    if options.drop_repeats:
        pool = without_repeats(pool)
    pool, held_out = hold_out(pool, options.held_out)
    if options.eval_data is not None:
        held_out += load_problems(options.eval_data, fields, template=options.template)
    return Task(str(options.data), pool, held_out, {"math": math_match, "exact": exact_match}[options.reward])


def make_policy(options: Options, checkpoint: Checkpoint | None, task: Task, ranks: Ranks) -> Policy:
    """Load the model of the checkpoint, else the one that the training starts from. Raises `ModelError`."""
    source = options.model if checkpoint is None or checkpoint.model is None else checkpoint.model
    tokenizer = addition.make_tokenizer() if source is None else load_tokenizer(source)
    encode = prompt_encoder(tokenizer, chat=options.chat)
    device = _device(options, ranks)
    if source is not None:
        return Policy(load_model(source, device=device), tokenizer, encode)
    return Policy(_taught_model(options, task, tokenizer, encode, device), tokenizer, encode)


def fitting(task: Task, policy: Policy, options: Options) -> tuple[Task, int]:
    """Leave out the problems whose prompt and completion exceed the context; say how many. Raises `TaskError`."""
    return without_long_prompts(task, policy.encode, max(0, context_length(policy.model) - options.max_tokens))


def make_learner(options: Options, policy: Policy, checkpoint: Checkpoint | None, task: Task, ranks: Ranks) -> Learner:
    """Make the learner, as the checkpoint left it."""
    reference = None
    if options.kl > 0:  # measured from the very start, not from the checkpoint
        reference = make_policy(options, None, task, ranks).model
    learner = Learner(
        policy.model,
        learning_rate=options.learning_rate,
        warm_up_steps=options.warm_up_steps,
        weight_decay=options.weight_decay,
        objective=Objective(
            clip_low=options.clip_low,
            clip_high=options.clip_high,
            kl=options.kl,
            scale_advantages=options.scale_advantages,
            temperature=options.temperature,
        ),
        micro_batch=options.micro_batch,
        mini_batches=options.mini_batches,
        reference=reference,
        ranks=ranks,
    )
    if checkpoint is not None and checkpoint.model is not None:
        checkpoint.restore(learner)
    return learner


def make_engine(options: Options, policy: Policy, task: Task) -> Engine:
    """Make what samples, with the policy's weights. Raises `EngineError`."""
    model, tokenizer = policy.model, policy.tokenizer
    if options.engine == "torch":
        return TorchEngine(model, tokenizer, max_sequences=options.max_sequences)
    if options.model is None:
        raise EngineError(f"--engine {options.engine} needs --model: the built-in model is sampled with torch")
    longest = max(len(policy.encode(problem.question)) for problem in [*task.pool, *task.held_out])
    engine: Engine
    if options.engine == "vllm":
        from greso_client.trainer.vllm_engine import VllmEngine  # noqa: PLC0415 - vLLM has an environment of its own

        engine = VllmEngine(
            options.model, tokenizer, end_tokens(model, tokenizer), max_model_len=longest + options.max_tokens
        )
    else:
        from greso_client.trainer.vllm_http import VllmHttpEngine  # noqa: PLC0415

        engine = VllmHttpEngine(options.engine_url, tokenizer, end_tokens(model, tokenizer))
    engine.sync_weights(model.state_dict())
    return engine


def _device(options: Options, ranks: Ranks) -> torch.device:
    if options.device is not None:
        return torch.device(options.device)
    device = best_device()
    return torch.device(device.type, ranks.local_rank) if device.type == "cuda" else device


def _taught_model(
    options: Options, task: Task, tokenizer: PreTrainedTokenizerBase, encode: Encode, device: torch.device
) -> PreTrainedModel:
    """Make the built-in model and teach it roughly; a seed always gives the same one."""
    model = addition.make_model(options.seed)
    model.to(device)  # type: ignore[arg-type]  # a decorator hides the signature
    engine = TorchEngine(model, tokenizer)
    sampling = Sampling(addition.FOUR_DIGITS.answer_tokens)
    for step, _ in enumerate(addition.warm_start(model, avoid=task.held_out, seed=options.seed), start=1):
        looked = step % WARM_START_CHECK == 0
        if looked and accuracy(engine, task.held_out, encode, task.reward, sampling) >= WARM_START:
            break
        if step == WARM_START_LIMIT:
            break
    return model
