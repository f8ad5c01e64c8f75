"""Entraîner un GPT : `python train.py model=gpt124m trainer.devices=2`.

La tâche se lit de haut en bas dans gpt_lightning/commands/train.py ; une installation sans les sources la lance
par `python -m gpt_lightning train`.
"""

from gpt_lightning.commands.train import main

if __name__ == "__main__":
    main()
