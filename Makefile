# Tout se fait dans .venv ; « make train » et « make test » installent ce qui manque, une seule fois.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.pret

.PHONY: help train test test-slow figures style clean
.DEFAULT_GOAL := help

help: ## Cette liste
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

train: $(READY) ## Installe puis entraîne le petit modèle (ARGS="model=gpt124m trainer.devices=2")
	$(BIN)/python train.py $(ARGS)

test: $(READY) ## Installe puis lance les tests rapides (moins de 8 minutes sur deux cœurs)
	$(BIN)/python -m pytest -m "not slow and not gpu" $(ARGS)

test-slow: $(READY) ## Les vérifications longues
	$(BIN)/python -m pytest -m "slow and not gpu" $(ARGS)

figures: $(READY) ## Redessine les images de docs/ avec la course la plus récente
	for name in attention temperature nucleus schedule; do \
		$(BIN)/python -m gpt_lightning.demos.$$name output_dir=docs/images || exit 1; \
	done

style: $(READY) ## Vérifie le style avec ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean: ## Retire l'environnement et les caches (outputs/ reste)
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch d'abord, seul : la version des contraintes, avant qu'une dépendance n'en choisisse une autre.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 ou 3.13 est nécessaire : make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
