"""`pip install -e .` installs the package and the command `scaling`; extras add tests, accelerators and more."""

import pathlib
import tomllib

import setuptools

REPOSITORY = tomllib.loads(pathlib.Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["scaling"]["repository"]
SERVE = ["starlette>=0.46", "uvicorn>=0.34", "prometheus-client>=0.21"]
NOTEBOOKS = ["ipykernel>=6.29", "jupytext>=1.16", "nbclient>=0.10", "nbformat>=5.10"]
TUNE = ["optuna>=4.0", "cmaes>=0.11"]
MUSIC = ["music21>=9.1", "verovio>=4.5"]

setuptools.setup(
    name="scaling",
    version="0.1.0",
    description="Scaling experiments for generative models in JAX: sweeps, fits, forecasts, verdicts.",
    long_description=pathlib.Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    project_urls={"Source": REPOSITORY} if REPOSITORY else {},
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["scaling", "scaling.*", "experiments", "experiments.*"]),
    entry_points={"console_scripts": ["scaling = experiments.__main__:main"]},
    package_data={"scaling": ["py.typed"], "scaling.report": ["*.j2", "*.css", "*.js"],
                  "scaling.serve": ["*.html"]},
    install_requires=[
        "absl-py>=2.1",
        "array-record>=0.5.1",
        "charset-normalizer>=3",
        "etils[epath]>=1.9",
        "filelock>=3.30",
        "flatbuffers>=24.3",
        "flax>=0.12",
        "fonttools>=4.43",
        "grain>=0.2.3",
        "importlib_resources>=6",
        "jax>=0.10",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "ml-collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.20",
        "pandas>=2.2",
        "pillow>=10",
        "pyarrow>=15",
        "sacrebleu>=2.4",
        "safetensors>=0.4",
        "scipy>=1.13",
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.7",
        "tokenizers>=0.20",
        "tqdm>=4.66",
        "xxhash>=3.4",
    ],
    extras_require={
        "test": ["pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100", "ruff==0.17.6", "pyrefly==1.5.0",
                 "libtpu>=0.0.40; sys_platform == 'linux' and platform_machine == 'x86_64'", "ray>=2.50", "httpx>=0.28",
                 *SERVE, *NOTEBOOKS, *TUNE, *MUSIC],
        "serve": SERVE,
        "notebooks": NOTEBOOKS,
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.28",
                 "ruff==0.17.6", *NOTEBOOKS],  # which formats signatures; tools import the others
        "gpu": ["jax[cuda13]>=0.10"],
        "tpu": ["jax[tpu]>=0.10"],
        "pods": ["libtpu>=0.0.40; sys_platform == 'linux' and platform_machine == 'x86_64'"],
        "ray": ["ray>=2.50"],
        "tune": TUNE,
        "music": MUSIC,
        "wandb": ["wandb>=0.20"],
        "exchange": ["huggingface_hub>=0.30", "torch>=2.6", "transformers>=4.53"],
        "onnx": ["jax2onnx>=0.17", "onnxruntime>=1.24"],
        "gcs": ["gcsfs"],
    },
)
