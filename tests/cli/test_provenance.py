import torch
import yaml

from gpt_lightning.cli import provenance


def test_the_environment_says_what_ran():
    found = provenance.environment()
    assert found["packages"]["torch"] == torch.__version__ and found["cores"] >= 1
    assert yaml.safe_load(yaml.safe_dump(found)) == found
