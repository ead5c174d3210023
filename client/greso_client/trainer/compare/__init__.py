"""`greso bench-rl`: several arms, several seeds, the same starts; what each needed to the same held-out accuracy.

`arms` (what is compared), `configuration` (at what size), `experiment` (one seed: data, start, training), `jobs`
(several at once, each in a process), `results` (what is kept), `measure`, `intervals`, `comparison` (what it says).
"""
