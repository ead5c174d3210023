"""`greso demo`: train one small model several times from the same start, with and without GRESO, and compare."""

from greso_client.trainer.demo.command import main
from greso_client.trainer.demo.options import Options

__all__ = ["Options", "main"]
