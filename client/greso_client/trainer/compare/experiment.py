"""One seed of an experiment: its data, its warm-started model, and the training of an arm from there.

Imports torch and transformers, so it is imported late.
"""

import copy
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import GPT2Config, PreTrainedConfig, PreTrainedModel, Qwen3Config

from greso_client import Client
from greso_client.trainer.addition import END, Addition, make_model, make_task, make_tokenizer, tiny_gpt2, warm_start
from greso_client.trainer.compare.arms import Arm
from greso_client.trainer.compare.configuration import Configuration
from greso_client.trainer.compare.measure import StepRow
from greso_client.trainer.engine import Sampling
from greso_client.trainer.evaluate import accuracy
from greso_client.trainer.grpo import Learner
from greso_client.trainer.loop import TrainingStep, train
from greso_client.trainer.model import prompt_encoder
from greso_client.trainer.torch_engine import TorchEngine

WARM_START_CHECK = 5  # steps between looks at the accuracy; it rises steeply


class Experiment:
    """One data set and one warm-started model, from which every arm starts. `before`: its held-out accuracy."""

    def __init__(self, configuration: Configuration, seed: int) -> None:
        """Draw the data and build the model; nothing is trained yet."""
        torch.set_num_threads(configuration.threads)
        self.configuration = configuration
        self.seed = seed
        self.before = 0.0
        self._addition = Addition(configuration.pool_digits, configuration.warm_digits, configuration.broken)
        self.task = make_task(seed, self._addition, pool=configuration.pool, held_out=configuration.held_out)
        self._tokenizer = make_tokenizer()
        self._encode = prompt_encoder(self._tokenizer)
        self._start = make_model(seed, model_config(configuration, self._addition))
        self._start.to(configuration.device)  # type: ignore[arg-type]  # a decorator hides the signature

    def warm_start(self) -> Iterator[float]:
        """Teach the model roughly; yields a rough held-out accuracy now and then. At the end `before` is set."""
        wanted = self.configuration
        steps = warm_start(
            self._start, self._addition, avoid=self.task.held_out, seed=self.seed,
            batch_size=wanted.warm_batch, learning_rate=wanted.warm_learning_rate,
        )  # fmt: skip
        for step, _ in enumerate(itertools.islice(steps, wanted.warm_limit), start=1):
            if step % WARM_START_CHECK == 0:
                rough = self._accuracy(self._start, samples=1)
                yield rough
                if rough >= wanted.start_accuracy:
                    break
        self.before = self._accuracy(self._start, wanted.samples)

    def save_start(self, path: Path) -> None:
        """Keep the warm-started model in a file, which is there whole or not at all."""
        partial = path.with_name(f".{path.name}.partial")
        torch.save({"before": self.before, "weights": self._start.state_dict()}, partial)
        partial.replace(path)

    def load_start(self, path: Path) -> None:
        """Take the start from the file instead of `warm_start`."""
        kept = torch.load(path, weights_only=True, map_location=self._start.device)
        self.before = kept["before"]
        self._start.load_state_dict(kept["weights"])

    def train(self, arm: Arm, client: Client) -> Iterator[StepRow]:
        """Create the run, fill its pool, and train a copy of the start until the configuration's stop."""
        sizes = self.configuration
        client.create_run(
            group_size=sizes.group_size,
            train_batch_size=sizes.train_batch_size,
            rollout_batch_size=sizes.rollout_batch_size,
            seed=self.seed,
            **arm.spec(sizes.rollout_batch_size, sizes.greso),
        )
        client.add_prompts(problem.id for problem in self.task.pool)
        model = copy.deepcopy(self._start)
        training = train(
            client,
            TorchEngine(model, self._tokenizer, max_sequences=sizes.sequences),
            Learner(model, learning_rate=sizes.learning_rate, micro_batch=sizes.sequences),
            self.task,
            self._encode,
            group_size=sizes.group_size,
            train_batch_size=sizes.train_batch_size,
            sampling=Sampling(self._addition.answer_tokens, seed=self.seed),
            steps=range(1, sizes.most_steps + 1),
            max_rounds=sizes.rounds if arm.refill else 1,
        )
        rollouts, trained, evaluate_at = 0, 0.0, sizes.evaluate_every
        started = time.perf_counter()
        for step in training:
            seconds = time.perf_counter() - started
            rollouts += step.collected.rollouts
            trained += seconds
            stop = sizes.stop.share(step.number, rollouts, trained) >= 1 or step.number == sizes.most_steps
            evaluated = None
            if stop or rollouts >= evaluate_at:
                evaluated = self._accuracy(model, sizes.samples)
                evaluate_at += sizes.evaluate_every
            yield _row(step, rollouts, evaluated, seconds)
            if stop:
                return
            started = time.perf_counter()

    def _accuracy(self, model: PreTrainedModel, samples: int) -> float:
        engine = TorchEngine(model, self._tokenizer, max_sequences=self.configuration.sequences)
        sampling = Sampling(self._addition.answer_tokens)
        return accuracy(engine, self.task.held_out, self._encode, self.task.reward, sampling, samples=samples)


def model_config(configuration: Configuration, addition: Addition) -> PreTrainedConfig:
    """Return the configuration of the model that is trained, for `AutoModelForCausalLM.from_config`."""
    width, depth, heads = configuration.hidden, configuration.layers, configuration.heads
    if configuration.model == "gpt2":
        config: GPT2Config = tiny_gpt2(addition)
        config.update({"n_embd": width, "n_layer": depth, "n_head": heads})
        return config
    return Qwen3Config(
        vocab_size=END + 1,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 3),
        head_dim=width // heads,
        intermediate_size=3 * width,
        max_position_embeddings=addition.prompt_tokens + addition.answer_tokens,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
    )


def _row(step: TrainingStep, rollouts: int, evaluated: float | None, seconds: float) -> StepRow:
    collected, parts = step.collected, step.seconds
    return StepRow(
        step=step.number,
        rollouts=rollouts,
        rounds=collected.rounds,
        groups=len(collected.groups),
        effective=len(collected.effective),
        learnt_from=step.learned,
        examined=collected.examined,
        skipped_easy=collected.skipped.easy,
        skipped_hard=collected.skipped.hard,
        reason=collected.reason,
        loss=None if step.update is None else step.update.loss,
        accuracy=evaluated,
        seconds=seconds,
        rollout_seconds=parts.rollout + parts.reward,
        update_seconds=parts.update,
        service_seconds=parts.service,
    )
