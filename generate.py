"""Continuer un texte : `python generate.py decoding=nucleus prompt="Il était une fois"`.

La tâche se lit de haut en bas dans gpt_lightning/commands/generate.py ; une installation sans les sources la lance
par `python -m gpt_lightning generate`.
"""

from gpt_lightning.commands.generate import main

if __name__ == "__main__":
    main()
