"""The rule itself: pure functions and arrays. Standard library and numpy only; no clock, no I/O, no generator."""
