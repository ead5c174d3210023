"""deploy/redis as a process: what the container `redis` of deploy/compose.yaml runs."""

from __future__ import annotations

import os
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.servers import Process, eventually, free_port, redis_server

from .files import DEPLOY, compose

START = DEPLOY / "redis" / "start.sh"
DECLARED: dict[str, str] = compose()["services"]["redis"]["environment"]


class Started(Process):
    """start.sh with the compose file's variables, on a port and a folder of the test's."""

    def __init__(self, folder: Path, password: str, **variables: str) -> None:
        super().__init__(folder / "redis.log")
        self.folder, self.port = folder, free_port()
        self.password_file = folder / "password"
        self.password_file.write_text(password + "\n")
        self.environment = {
            "PATH": os.environ["PATH"],
            **DECLARED,
            "REDIS_PASSWORD_FILE": str(self.password_file),
            "REDIS_DIR": str(folder),
            **variables,
        }

    def start(self) -> Started:
        redis_server()
        options = ["--port", str(self.port), "--bind", "127.0.0.1"]
        self.run(
            ["/usr/bin/env", "-i", *(f"{k}={v}" for k, v in self.environment.items()), str(START), *options],
            self.folder,
        )
        eventually(self.answers, 20, self.said)
        return self

    def client(self, password: str | None) -> redis.Redis:
        # At once: by default redis-py waits seconds between its tries.
        return redis.Redis(port=self.port, password=password, retry=Retry(NoBackoff(), 0))

    def answers(self) -> bool:
        assert not self.ended(), self.said()
        with self.client(None) as client:
            try:
                client.ping()
            except redis.AuthenticationError:
                return True
            except redis.ConnectionError:
                return False
        raise AssertionError("it lets everyone in")
