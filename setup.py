"""Ce que pyproject.toml ne sait pas dire : la roue emporte conf/, sous le nom gpt_lightning/conf."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["gpt_lightning*"]), "gpt_lightning.conf"],
    package_dir={"gpt_lightning.conf": "conf"},
    package_data={
        "gpt_lightning": ["py.typed", "tokenizers/gpt2/*", "serving/page/*"],
        "gpt_lightning.conf": ["**/*.yaml"],
    },
)
