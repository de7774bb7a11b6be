"""Installs feelvos_tf: `pip install -e .`, or `pip install -e '.[dev]'` with the test tools."""

import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).parent
FROM_3_11 = "python_version >= '3.11'"
OLDER, NEWEST = "python_version < '3.12'", "python_version >= '3.12'"
TFDS = [
    "tensorflow-datasets>=4.9",
    # tensorflow-datasets imports it and does not say so.
    "importlib_resources>=5.0",
    # From 1.17 on it needs a newer protobuf than TensorFlow 2.15.
    f"tensorflow-metadata<1.17; {OLDER}",
    # It imports this, too, of which newer ones need NumPy 2.
    f"pyarrow<20; {OLDER}",
]
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "feelvos_tf/__init__.py").read_text())[1]


class BuildPackage(build_py):
    """Leaves tests out of wheels, in which gin files and tools lie inside of the package."""

    def run(self):
        super().run()
        if not self.editable_mode:
            tools = [p for p in (ROOT / "tools").glob("*.py") if not p.stem.endswith("_test")]
            for path in sorted([*tools, *(ROOT / "gin_configs").rglob("*.gin")]):
                target = pathlib.Path(self.build_lib, "feelvos_tf", path.relative_to(ROOT))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        return [each for each in found if each[1] != "conftest" and not each[1].endswith("_test")]


setup(
    name="feelvos_tf",
    version=VERSION,
    description="FEELVOS (CVPR 2019) video object segmentation in TensorFlow 2",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["feelvos_tf", "feelvos_tf.*"], exclude=["feelvos_tf.testing"]),
    cmdclass={"build_py": BuildPackage},
    package_data={
        "feelvos_tf": ["pretrained/*"],
        "feelvos_tf.demo_page": ["static/*"],
        "feelvos_tf.evaluation.report": ["templates/*"],
    },
    python_requires=">=3.9",
    install_requires=[
        "absl-py>=1.4",
        "av>=14.2",
        "gin-config>=0.5",
        "jinja2>=3.1",
        "numpy>=1.23",
        "opencv-python-headless>=4.7",
        "pillow>=9.4",
        "tqdm>=4.64",
        # Two pairs of Python and TensorFlow. Up to Python 3.11: the last TensorFlow that can load
        # the kernels of the add-ons, which are discontinued (beside the package tensorflow-cpu they
        # do not load either). It takes neither NumPy 2 nor OpenCV 4.12, which needs NumPy 2.
        f"tensorflow==2.15.1; {OLDER}",
        f"tensorflow-addons==0.23.0; {OLDER}",
        f"numpy<2; {OLDER}",
        f"opencv-python-headless<4.12; {OLDER}",
        # From Python 3.12 on: today's, with Keras 3 and without the add-ons.
        f"tensorflow>=2.18; {NEWEST}",
        # TensorFlow writes its summaries by it, and from 2.21 on does not bring it.
        f"tensorboard>=2.18; {NEWEST}",
    ],
    extras_require={
        # What all tests need: also hypothesis, which writes files that readers are tested with, an
        # ffmpeg that writes into pipes, IPython, matplotlib, pycocotools, Ray, the page's server,
        # and playwright, which drives the browser that tests the page.
        "dev": [
            "hypothesis>=6.100",
            "imageio-ffmpeg>=0.4.8",
            "ipython>=8.12",
            "matplotlib>=3.7",
            "playwright>=1.40",
            "pycocotools>=2.0.6",
            "pytest>=7.4",
            "pytest-xdist>=3.7",
            "ray>=2.9",
            "ruff>=0.6",
            "starlette>=0.37",
            "uvicorn>=0.29",
            # On Python 3.10 pip searches for versions that fit each other for many minutes.
            *(f"{package}{' and' if ';' in package else ';'} {FROM_3_11}" for package in TFDS),
        ],
        # For tools/table6.py and `tools/benchmark quality_time`.
        "plots": ["matplotlib>=3.7"],
        "cluster": ["ray>=2.9"],
        "gpu": [
            f"tensorflow[and-cuda]==2.15.1; {OLDER}",
            f"tensorflow[and-cuda]>=2.18; {NEWEST}",
        ],
        # A page to paint on: python -m feelvos_tf.demo.
        "demo": ["starlette>=0.37", "uvicorn>=0.29"],
        "tfds": TFDS,
    },
)
