# The trainer as an image: it runs as a user without rights, keeps data in /data and runs in /logs.
#   docker build --tag vaelab .                                                    torch without CUDA
#   docker build --tag vaelab --build-arg TORCH_INDEX= .    torch with CUDA: docker run --gpus all
#   mkdir -p data logs && docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/data:/data" -v "$PWD/logs:/logs" \
#       vaelab data=mnist latent_dim=2
# `--entrypoint vaelab-evaluate` before the image's name evaluates: ... vaelab run_dir=logs/runs/NAME
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}

RUN command -v make \
    || (apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*)
RUN useradd --uid 1000 --no-create-home --home-dir /tmp vaelab \
    && install --directory --owner vaelab --group vaelab --mode 1777 /data /logs

# The steps of `make setup`, in two layers: a change of the sources does not install torch again. The packages' own
# tests, a quarter of a gigabyte, stay out.
WORKDIR /app
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY Makefile requirements.txt ./
RUN PIP_NO_CACHE_DIR=1 make .venv/.requirements \
    && find .venv -depth -type d '(' -name tests -o -path '*/torch/test' ')' -exec rm -r {} +
COPY . .
RUN PIP_NO_CACHE_DIR=1 make setup

# any user may write to /tmp, also one whom --user names and the image does not know
ENV PATH=/app/.venv/bin:$PATH HOME=/tmp VAELAB_DATA_DIR=/data
USER vaelab
WORKDIR /
VOLUME ["/data", "/logs"]
ENTRYPOINT ["vaelab-train"]
