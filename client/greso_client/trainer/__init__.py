"""The reference trainer: GRPO in plain torch, asking a greso service which prompts to roll out.

Read it top to bottom: `task` (what is learnt), `model` (what learns it), `rollout` (sampling), `grpo` (the objective
and the update), `loop` (the training loop), `evaluate` (held-out accuracy). `demo` compares arms of it.
Needs ``pip install 'greso[trainer]'``.
"""
