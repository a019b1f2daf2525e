# One image for every role: `tagmill worker`, `tagmill run …`, `tagmill sandbox`.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
# A mirror of your own: docker build --build-arg PIP_INDEX_URL=…; nothing of it stays in the image.
ARG PIP_INDEX_URL
RUN python -m venv /app/venv
WORKDIR /src
COPY requirements.txt ./
RUN /app/venv/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY producer producer
COPY sandbox sandbox
COPY worker worker
# setuptools comes with the lock file, so nothing unpinned is fetched here.
RUN /app/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:${PYTHON_VERSION}-slim
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin tagmill \
    && install --directory --owner=tagmill --group=tagmill /data /data/runs /data/state
COPY --from=build /app/venv /app/venv
ENV PATH=/app/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TAGMILL_RUN_STORE=/data/runs \
    TAGMILL_STATE_DIR=/data/state
USER tagmill
WORKDIR /data
# The exec form: tagmill is process 1 and gets the TERM of `docker stop` itself.
ENTRYPOINT ["tagmill"]
CMD ["--help"]
