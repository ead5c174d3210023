# The images of greso: `service` (the default) and `trainer`.
#   docker build -t greso .
#   docker build -t greso-trainer --target trainer .
# To pin a base by digest too, give PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:... by --build-arg or here.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0


FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.lock ./
RUN python -m venv /build \
    && /build/bin/pip install -c requirements.lock hatchling==1.33.0 trove-classifiers==2026.9.21.13
COPY pyproject.toml README.md LICENSE ./
COPY service ./service
COPY client ./client
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .


FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.lock ./
COPY --from=wheel /wheels /wheels
# The environment has no pip of its own: what runs the service can install nothing.
RUN python -m venv --without-pip /opt/greso \
    && python -m pip --python /opt/greso/bin/python install --compile -c requirements.lock \
       "greso[service,otel] @ file://$(echo /wheels/greso-*.whl)" \
    && python -m pip --python /opt/greso/bin/python check


# vLLM's image decides about torch, transformers and all that it brings; only what is missing is added, and pinned.
FROM ${VLLM_IMAGE} AS trainer
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="greso-trainer" \
      org.opencontainers.image.description="The reference GRPO trainer of greso, with vLLM" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1
COPY deploy/trainer/requirements.txt /tmp/requirements.txt
COPY --from=wheel /wheels /wheels
RUN python3 -m pip install --no-deps -r /tmp/requirements.txt \
    && python3 -m pip install --no-deps /wheels/greso-*.whl \
    && python3 -c "import greso_client.trainer.command, greso_client.trainer.vllm_engine" \
    && rm -r /wheels /tmp/requirements.txt \
    && groupadd --gid 10001 greso \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin greso \
    && install -d -o greso -g greso /training /home/greso/.cache
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HOME=/home/greso/.cache/huggingface
WORKDIR /training
USER 10001:10001
STOPSIGNAL SIGTERM
# A training is a job, not a server: that it is alive is all there is to see from outside.
HEALTHCHECK NONE
ENTRYPOINT ["python3", "-m", "greso_client.trainer"]
CMD ["--help"]


FROM ${PYTHON_IMAGE} AS service
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="greso" \
      org.opencontainers.image.description="Decides, before the rollout, which prompts are worth rolling out (GRESO)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 greso \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin greso \
    && install -d -o greso -g greso -m 0700 /var/lib/greso
COPY --from=build /opt/greso /opt/greso
ENV PATH=/opt/greso/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GRESO_HOST=0.0.0.0 \
    GRESO_PORT=8080 \
    GRESO_DATA_DIR=/var/lib/greso \
    GRESO_LOG_FORMAT=json
WORKDIR /var/lib/greso
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# /livez, not /readyz: what restarts an unhealthy container must not restart this one because Redis is away. It goes
# on answering `select` from memory then; and it does not start to listen before it has seen a usable Redis.
HEALTHCHECK --interval=10s --timeout=4s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os, sys; service = http.client.HTTPConnection('127.0.0.1', int(os.environ['GRESO_PORT']), timeout=3); service.request('GET', '/livez'); sys.exit(service.getresponse().status != 200)"]
ENTRYPOINT ["greso"]
CMD ["serve"]
