"""`python -m greso_client.trainer.compare`: the same as `greso bench-rl`."""

import sys

from greso_client.trainer.compare.command import main

if __name__ == "__main__":
    sys.exit(main())
