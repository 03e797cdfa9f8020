"""`pip install -e .` installs the package; extras add tests, accelerators and Weights & Biases."""

import setuptools

setuptools.setup(
    name="scaling",
    version="0.1.0",
    description="Scaling experiments for generative models in JAX: sweeps, fits, forecasts, verdicts.",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["scaling", "scaling.*", "experiments", "experiments.*"]),
    package_data={"scaling.report": ["*.j2", "*.css", "*.js"]},
    install_requires=[
        "absl-py>=2.1",
        "array-record>=0.5.1",
        "etils[epath]>=1.9",
        "flax>=0.12",
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
        "scipy>=1.13",
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.7",
        "tokenizers>=0.20",
        "tqdm>=4.66",
    ],
    extras_require={
        "test": ["pytest>=8", "hypothesis>=6.100"],
        "gpu": ["jax[cuda13]>=0.10"],
        "tpu": ["jax[tpu]>=0.10"],
        "wandb": ["wandb>=0.20"],
        "gcs": ["gcsfs"],
    },
)
