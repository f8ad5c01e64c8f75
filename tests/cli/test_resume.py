"""Reprendre une exécution : ce que la ligne de commande en reprend."""

import yaml

from gpt_lightning.cli import resume
from gpt_lightning.cli.composition import CONF


def test_a_resume_knows_every_group_of_train():
    """Un groupe oublié reviendrait à son choix par défaut."""
    defaults = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))["defaults"]
    groups = {name for one in defaults if isinstance(one, dict) for name in one}
    assert groups == set(resume.GROUPS)
