"""Les démonstrations : `python -m gpt_lightning.demos.<nom>`. `compute()` calcule, `render()` montre."""
