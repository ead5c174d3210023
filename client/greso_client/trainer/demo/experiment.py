"""Training one arm and measuring it. Imports torch and transformers, so it is imported late."""

import copy
import time
from collections.abc import Iterator

import torch
from transformers import GPT2LMHeadModel

from greso_client import Client
from greso_client.trainer.demo.measure import StepRow
from greso_client.trainer.demo.options import GROUP_SIZE, ROLLOUT_BATCH_SIZE, TRAIN_BATCH_SIZE, Arm, Options
from greso_client.trainer.evaluate import sampled_accuracy
from greso_client.trainer.grpo import Learner
from greso_client.trainer.loop import train
from greso_client.trainer.model import build_model, warm_start
from greso_client.trainer.rollout import TorchEngine
from greso_client.trainer.task import ANSWER_TOKENS, END, Dataset, make_dataset

THREADS = 2  # more hardly help a model this small, and the sums come out the same on every machine that has two cores
LEARNING_RATE = 3e-4
WARM_START_CHECK = 5  # steps between looks at the accuracy; it rises steeply
WARM_START_LIMIT = 400  # steps; it takes 140-180


class Experiment:
    """One data set and one warm-started model, from which every arm starts."""

    def __init__(self, options: Options) -> None:
        """Draw the data and build the model; nothing is trained yet."""
        torch.set_num_threads(THREADS)
        self._options = options
        sizes = options.sizes
        self.data: Dataset = make_dataset(options.seed, pool=sizes.pool, held_out=sizes.held_out)
        self._start: GPT2LMHeadModel = build_model(options.seed)
        self.before = 0.0

    def warm_start(self) -> Iterator[float]:
        """Teach the model roughly; yields a rough held-out accuracy now and then. At the end `before` is set."""
        for step, _ in enumerate(warm_start(self._start, avoid=self.data.held_out, seed=self._options.seed), start=1):
            if step % WARM_START_CHECK == 0:
                rough = sampled_accuracy(self._start, self.data.held_out, samples=1)
                yield rough
                if rough >= self._options.sizes.start_accuracy or step >= WARM_START_LIMIT:
                    break
        self.before = self._accuracy(self._start)

    def train(self, arm: Arm, client: Client) -> Iterator[StepRow]:
        """Create the run, fill its pool, and train a copy of the start until the rollouts are spent."""
        options = self._options
        client.create_run(
            group_size=GROUP_SIZE,
            train_batch_size=TRAIN_BATCH_SIZE,
            rollout_batch_size=ROLLOUT_BATCH_SIZE,
            seed=options.seed,
            **arm.spec,
        )
        problems = {problem.id: problem for problem in self.data.pool}
        client.add_prompts(problems)

        model = copy.deepcopy(self._start)
        engine = TorchEngine(model, max_tokens=ANSWER_TOKENS, end=END, seed=options.seed)
        learner = Learner(model, learning_rate=LEARNING_RATE)
        training = train(
            client,
            engine,
            learner,
            problems,
            steps=options.budget // (GROUP_SIZE * TRAIN_BATCH_SIZE) + 1,
            group_size=GROUP_SIZE,
            train_batch_size=TRAIN_BATCH_SIZE,
            max_rounds=arm.max_rounds,
        )
        rollouts = 0
        evaluate_at = options.sizes.evaluate_every
        started = time.perf_counter()
        for step in training:
            seconds = time.perf_counter() - started
            collected = step.collected
            rollouts += collected.rollouts
            accuracy = None
            if rollouts >= min(evaluate_at, options.budget):
                accuracy = self._accuracy(model)
                evaluate_at += options.sizes.evaluate_every
            yield StepRow(
                step=step.number,
                rollouts=rollouts,
                rounds=collected.rounds,
                groups=len(collected.groups),
                effective=len(collected.effective),
                learnt_from=min(len(collected.effective), TRAIN_BATCH_SIZE),
                examined=collected.examined,
                skipped_easy=collected.skipped.easy,
                skipped_hard=collected.skipped.hard,
                reason=collected.reason,
                loss=None if step.update is None else step.update.loss,
                accuracy=accuracy,
                seconds=seconds,
                rollout_seconds=step.rollout_seconds,
                service_seconds=collected.service_seconds,
            )
            if rollouts >= options.budget:
                return
            started = time.perf_counter()

    def _accuracy(self, model: GPT2LMHeadModel) -> float:
        return sampled_accuracy(model, self.data.held_out, samples=self._options.sizes.samples)
