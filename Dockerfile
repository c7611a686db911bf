# One image for every part of Claude Conductor. Two stages: what builds is not in what runs.
#   docker build -t claudeconductor/claude-conductor:latest .
# Without a registry and without a network (tests/e2e/test_containers.py): --build-arg BASE=..., wheels in .cache/containers/wheels
# and --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/source/.cache/containers/wheels.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
# A base that has it all already, as the tests' own, needs no package source.
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    if ! command -v python3 >/dev/null || ! command -v git >/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends python3 git ca-certificates; \
    fi

FROM python AS build
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    if ! python3 -c 'import ensurepip' 2>/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends python3-venv; \
    fi
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# pip stays in this stage: /opt/conductor has none.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/conductor
RUN --mount=type=bind,target=/source --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip --python /opt/conductor/bin/python install --require-hashes --requirement /source/requirements.lock
RUN --mount=type=bind,target=/source --mount=type=cache,target=/root/.cache/pip \
    mkdir /project && cd /source && cp -r pyproject.toml README.md LICENSE claude_conductor controlplane agent_sidecar /project && \
    /opt/pip/bin/pip --python /opt/conductor/bin/python install --no-deps /project

FROM python AS conductor
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Claude Conductor" \
      org.opencontainers.image.description="Control plane for a fleet of coding agents: durable queue, relayed messages" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The volumes' folders are made here, so that a new volume belongs to the user who writes into it.
RUN groupadd --gid 1000 conductor && useradd --uid 1000 --gid 1000 --home-dir /var/lib/conductor --no-create-home conductor && \
    install -d -m 0700 -o 1000 -g 1000 /var/lib/conductor /var/log/conductor /workspace && \
    ln -s /var/log/conductor /var/lib/conductor/logs && chown -h 1000:1000 /var/lib/conductor/logs
COPY --from=build /opt/conductor /opt/conductor
# Agents join from elsewhere: a container's default profile has no user namespaces, so nothing here could isolate one (docs/deploy).
ENV PATH=/opt/conductor/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/conductor \
    CONDUCTOR_HOME=/var/lib/conductor \
    CONDUCTOR_STORAGE__WORKSPACE_PATH=/workspace \
    CONDUCTOR_NUM_AGENTS=0 \
    CONDUCTOR_LISTEN__SIDECARS=0.0.0.0:7443 \
    CONDUCTOR_LISTEN__CLIENTS=0.0.0.0:7444 \
    CONDUCTOR_LISTEN__PROBE=0.0.0.0:7445
USER 1000:1000
WORKDIR /var/lib/conductor
EXPOSE 7443 7444 7445
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=15s --retries=3 CMD ["/bin/sh", "-c", "conductor status -o name || exit 1"]
ENTRYPOINT ["conductor"]
CMD ["start", "--foreground"]
