"""The HTTP contract, v1: FastAPI over `greso_service.runs`."""
