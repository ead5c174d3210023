"""The reference trainer: GRPO in plain torch, asking a greso service which prompts to roll out.

Read it in this order: `task` (what is learnt), `model` (what learns it), `engine` and `torch_engine` (sampling),
`grpo` (the objective and the update), `loop` (the training loop), `evaluate` (held-out accuracy). Around that: `ranks`
(several processes), `checkpoint` (stop and go on), `logs`, and `command`, which puts all of it together as
``greso train``. `addition` is a task and a model for trying things out; `compare` measures what the service saves.
Needs ``pip install '.[trainer]'`` in the checkout.
"""
