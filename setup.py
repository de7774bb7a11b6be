"""Installs feelvos_tf: `pip install -e .`, or `pip install -e '.[dev]'` with the test tools."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "feelvos_tf/__init__.py").read_text())[1]

setup(
    name="feelvos_tf",
    version=VERSION,
    description="FEELVOS (CVPR 2019) video object segmentation in TensorFlow 2",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["feelvos_tf", "feelvos_tf.*"]),
    package_data={
        "feelvos_tf": ["pretrained/*"],
        "feelvos_tf.evaluation.report": ["templates/*"],
    },
    python_requires=">=3.9,<3.12",
    install_requires=[
        "absl-py>=1.4",
        "av>=14.2",
        "gin-config>=0.5",
        "jinja2>=3.1",
        "numpy>=1.23,<2",
        # 4.12 needs NumPy 2, which TensorFlow 2.15 does not take.
        "opencv-python-headless>=4.7,<4.12",
        "pillow>=9.4",
        # The last two that work together: newer TensorFlow cannot load the add-ons' kernels, and
        # neither can the package tensorflow-cpu.
        "tensorflow==2.15.1",
        "tensorflow-addons==0.23.0",
        "tqdm>=4.64",
    ],
    extras_require={
        "dev": ["pytest>=7.4", "pytest-xdist>=3.5", "ruff>=0.6"],
        # tensorflow-metadata needs a newer protobuf than TensorFlow 2.15's from 1.17 on.
        "tfds": ["tensorflow-datasets>=4.9,<4.10", "tensorflow-metadata<1.17"],
    },
)
