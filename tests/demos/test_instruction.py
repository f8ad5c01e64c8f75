"""Le masque d'une conversation : ce que l'image montre est ce que l'entraînement apprend."""

import pytest

from gpt_lightning.demos import instruction
from gpt_lightning.tokenizers import gpt2
from gpt_lightning.tokenizers.template import Message

TALK = [Message("user", "Définis le mot chaise $x$."), Message("assistant", "Siège avec dossier.")]


@pytest.mark.parametrize("name", ["texte", "chatml"])
def test_what_is_drawn_is_what_is_learned(name, tmp_path):
    found = instruction.compute(name, gpt2(), TALK)
    learned = "".join(token for token, kept in zip(found.tokens, found.learned, strict=True) if kept)
    end = "<|endoftext|>" if name == "texte" else "<|im_end|>"
    assert learned.replace("\\xc3", "").endswith(end) and "dossier" in learned and "chaise" not in learned
    paths = instruction.render(found, tmp_path)
    assert [path.name for path in paths] == ["instruction.pdf", "instruction.png"]
    assert all(path.stat().st_size > 1000 for path in paths)


def test_the_command_writes_the_picture(command, tmp_path):
    typed = ("template=chatml", "system=Sois bref.", "output_dir=images")
    done = command("gpt_lightning.demos.instruction", *typed, cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "images" / "instruction.png").exists(), done.stderr
