# The package and its commands in one image.
#
#   docker build -t scaling .                                   # CPU
#   docker build -t scaling:gpu --build-arg EXTRAS=gpu,gcs .    # NVIDIA GPUs: docker run --gpus=all ...; CUDA comes with JAX
#   docker build -t scaling:tpu --build-arg EXTRAS=tpu,gcs .    # TPU VMs: docker run --privileged --net=host ...
#   docker run --rm -v "$PWD/runs:/scaling/runs" scaling run --config=configs/quickstart.py --workdir=runs/quickstart
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# Extras of setup.py, separated by commas.
ARG EXTRAS=""

WORKDIR /scaling
COPY setup.py pyproject.toml constraints.txt README.md LICENSE ./
COPY scaling scaling
COPY experiments experiments
COPY configs configs
COPY tools tools
RUN pip install --no-cache-dir -c constraints.txt -e ".${EXTRAS:+[${EXTRAS}]}"

ENTRYPOINT ["scaling"]
CMD ["--help"]
