# One image for API, worker, beat and migrations; compose.yaml says which one a container is.
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/arbe
COPY requirements.lock ./
RUN /opt/arbe/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md beat_schedule.py ./
COPY dispatch ./dispatch
COPY workers ./workers
RUN /opt/arbe/bin/pip install --no-deps --no-build-isolation --no-index .

FROM python:3.12-slim
# bubblewrap is the local sandbox; whether its namespaces are allowed is the host's choice.
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home --home-dir /var/lib/arbe arbe
COPY --from=build /opt/arbe /opt/arbe
ENV PATH=/opt/arbe/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ARBE_WORKSPACE_ROOT=/var/lib/arbe/workspaces
WORKDIR /var/lib/arbe
USER arbe
EXPOSE 8700
STOPSIGNAL SIGTERM
ENV ARBE_API_HOST=0.0.0.0
CMD ["python", "-m", "dispatch.api"]
