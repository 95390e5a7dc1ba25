# One image for CPU and CUDA: PyTorch's wheels bring the CUDA libraries, the host brings the driver.
#
#   docker build -t rewind-ray .
#   docker run --rm -v "$PWD/results:/home/runner/results" rewind-ray quickstart
#   docker run --rm --gpus all --shm-size 8g -v "$PWD/results:/home/runner/results" rewind-ray compare ...
#
# For Kubernetes see cluster/kuberay.yaml, which replaces the entry point by Ray's own.
#
# A CPU image of a fifth of the size takes PyTorch's CPU wheels, wherever you have them:
#
#   docker build --build-arg PIP_ARGUMENTS="--extra-index-url URL" -t rewind-ray:cpu .
FROM python:3.11-slim

ARG PIP_ARGUMENTS=""

# g++: torch.compile
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/rewind-ray
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY rewind_ray rewind_ray
COPY trainables trainables
COPY sweeps sweeps
COPY analysis analysis
RUN pip install --no-cache-dir --constraint constraints.txt ${PIP_ARGUMENTS} '.[onnx]' 'ray[default]'

RUN useradd --create-home runner
USER runner
WORKDIR /home/runner
ENTRYPOINT ["rewind-ray"]
CMD ["--help"]
