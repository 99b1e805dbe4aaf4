# The two commands in a container, on a CPU:
#   docker build -t mlm-recipes .
#   docker run --rm mlm-recipes                  (make train CORPUS=meditations)
#   docker run --rm mlm-recipes make test
# pip takes the torch of its default index, which for Linux on x86_64 brings CUDA, gigabytes of it. --build-arg PIP_OPTIONS="..." are
# options for pip, such as those with which https://pytorch.org/get-started/locally/ has it find the CPU build.
ARG BASE=python:3.11-slim

FROM ${BASE} AS tools
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home person \
    && install --directory --owner person --group person /opt/mlm_recipes
USER person
WORKDIR /opt/mlm_recipes
ENV PIP_NO_CACHE_DIR=1

FROM tools
ARG PIP_OPTIONS=""
COPY --chown=person:person . .
RUN make .venv/ready-dev
CMD ["make", "train", "CORPUS=meditations"]
