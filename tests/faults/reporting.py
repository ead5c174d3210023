"""A client of its own process: reports until its standard input ends, each report at most twice; prints what became.

`python reporting.py URL RUN NAME`. Each report is of one group of a prompt of its own, `NAME-NUMBER`.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading

import httpx

TRIES = 2


def main(url: str, run: str, name: str) -> None:
    """Report."""
    stopping = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stopping.set()

    threading.Thread(target=wait, daemon=True).start()
    acknowledged, refused, retried = list[str](), list[str](), 0
    with httpx.Client(base_url=url, timeout=20.0, trust_env=False) as http:
        for number in itertools.count():
            if stopping.is_set():
                break
            prompt = f"{name}-{number}"
            body = {"step": number // 10, "results": [{"prompt": prompt, "rewards": [0, 1]}]}
            seen = [said := _report(http, run, prompt, body)]
            while said != "200" and len(seen) < TRIES:
                seen.append(said := _report(http, run, prompt, body))
                retried += 1
            (acknowledged if said == "200" else refused).append(prompt if said == "200" else " ".join(seen))
            if number == 0:
                print("reporting", flush=True)  # noqa: T201
    print(json.dumps({"acknowledged": acknowledged, "refused": refused, "retried": retried}))  # noqa: T201


def _report(http: httpx.Client, run: str, key: str, body: object) -> str:
    try:
        return str(http.post(f"/v1/runs/{run}/report", json=body, headers={"Idempotency-Key": key}).status_code)
    except httpx.TransportError as error:
        return type(error).__name__


if __name__ == "__main__":
    main(*sys.argv[1:])
