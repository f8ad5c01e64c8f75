"""Les phrases montrées aux personnes : des fonctions qui rendent un texte, et n'affichent rien."""

import difflib
import errno
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_NARROW = "\u202f"  # espace fine insécable : sépare les milliers en français


def number(value: float, digits: int = 0) -> str:
    """1234567.8 -> « 1 234 568 » ; avec `digits` décimales, à virgule."""
    return f"{value:,.{digits}f}".replace(",", _NARROW).replace(".", ",")


def tick(value: float, position: int | None = None) -> str:
    """Le nombre d'une graduation, à virgule : la forme qu'attend `FuncFormatter` de matplotlib."""
    return f"{value:g}".replace(".", ",").replace("-", "−")


def magnitude(value: float, unit: str = "") -> str:
    """Un grand nombre en k, M, G, T : 124439808 -> « 124,4 M »."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{number(value / size, 1)} {prefix}{unit}"
    return f"{number(value)} {unit}".strip()


def parameters_of(count: int) -> str:
    """Un nombre de paramètres : « 124,4 M de paramètres », « 256 paramètres »."""
    return f"{magnitude(count)} {'de ' if count >= 1e3 else ''}paramètres"


def duration(seconds: float) -> str:
    """Une durée lisible : 3725 -> « 1 h 02 min », 95 -> « 1 min 35 s »."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


def device(name: str, count: int, precision: str, compiled: bool) -> str:
    """L'appareil, le nombre de processus et la précision."""
    line = f"Appareil   : {name}, précision {precision}" + (", compilé" if compiled else "")
    if count > 1 and name == "cpu":
        line += f"\n             {count} processus sur CPU (gloo) : pour essayer, pas pour aller plus vite"
    elif count > 1:
        line += f", {count} processus"
    return line


def probed(tokens: int, width: int, ratio: float) -> str:
    """Ce que la mesure du bf16 a donné sur ce processeur."""
    return f"Précision  : un produit de {tokens} x {width} va {number(ratio, 1)} fois plus vite en bf16 qu'en float32"


def corpus(stats: Any, name: str) -> str:
    """Ce que le corpus contient : documents, caractères, jetons et fenêtres de chaque moitié."""
    return (
        f"Corpus     : {name}, {number(stats.documents)} document{'s' * (stats.documents > 1)}, "
        f"{number(stats.characters)} caractères\n"
        f"             entraînement {number(stats.train_tokens)} jetons, {number(stats.train_windows)} fenêtres ; "
        f"validation {number(stats.val_tokens)} jetons, {number(stats.val_windows)} fenêtres"
    )


def model(parameters: int, flops: int, memory: Mapping[str, int]) -> str:
    """La taille du modèle, ses FLOP par jeton, la mémoire estimée d'un processus (octets)."""
    return (
        f"Modèle     : {parameters_of(parameters)}, {magnitude(flops, 'FLOP')} par jeton\n"
        f"             mémoire estimée {magnitude(sum(memory.values()), 'o')} par processus "
        f"(poids et AdamW {magnitude(memory['parameters'], 'o')}, activations {magnitude(memory['activations'], 'o')}, "
        f"logits {magnitude(memory['logits'], 'o')})"
    )


def learning(learned: int, whole: int, adapters: Any, memory: int, full: int) -> str:
    """Ce qui apprend quand le reste est gelé : sa part des paramètres, sa mémoire, et celle du tout (octets)."""
    what = "seule une partie apprend"
    if adapters is not None:
        what = f"LoRA de rang {adapters.rank} sur {', '.join(adapters.modules)}"
    return (
        f"Apprennent : {what}, {parameters_of(learned)} sur {magnitude(whole)} "
        f"({percent(learned / whole)})\n"
        f"             poids et AdamW : {magnitude(memory, 'o')} au lieu de {magnitude(full, 'o')}"
    )


def conversations(stats: Any, name: str, targets: int, template: str) -> str:
    """Ce qu'un corpus de conversations contient, et ce qui en est appris."""
    return (
        f"Corpus     : {name}, {number(stats.documents)} conversation{'s' * (stats.documents > 1)}, "
        f"gabarit {template}\n"
        f"             entraînement {number(stats.train_tokens)} jetons, dont {number(targets)} à apprendre ; "
        f"validation {number(stats.val_tokens)} jetons"
    )


def labelled(stats: Any, name: str, counts: Mapping[str, int], cut: int, length: int) -> str:
    """Ce qu'un corpus de textes étiquetés contient : `counts` textes d'entraînement par étiquette, `cut` coupés."""
    most = sorted(counts.items(), key=lambda one: -one[1])
    listed = ", ".join(f"{label} {percent(count / sum(counts.values()))}" for label, count in most[:6])
    more = f" et {len(most) - 6} autres" if len(most) > 6 else ""
    text = (
        f"Corpus     : {name}, {number(stats.documents)} textes, {len(counts)} étiquettes ({listed}{more})\n"
        f"             entraînement {number(stats.train_windows)} textes, {number(stats.train_tokens)} jetons ; "
        f"validation {number(stats.val_windows)} textes"
    )
    if cut:
        coupes = "coupés" if cut > 1 else "coupé"
        text += (
            f"\n             {number(cut)} texte{'s' * (cut > 1)} {coupes} à data.max_length={length} jetons"
        )
    return text


def percent(share: float) -> str:
    """Une part, en pour cent."""
    return f"{100 * share:.1f} %".replace(".", ",")


def limited(limit: int, total: int) -> str:
    """Seule une partie d'un corpus est lue."""
    return f"Corpus     : {number(limit)} textes tirés parmi {number(total)} (data.limit=null les lit tous)"


def left_aside(nouns: tuple[str, str], count: int, first: str) -> str:
    """Des lignes laissées de côté."""
    feminine = "" if nouns[0].startswith("texte") else "e"
    plural = "s" * (count > 1)
    return (
        f"{number(count)} {nouns[count > 1]} laissé{feminine}{plural} de côté ; la première ligne : {first}"
    )


def too_long(where: str, length: int) -> str:
    """Une conversation dont même la première réponse ne tient pas."""
    return f"{where} : la première question et sa réponse dépassent data.max_length={length} jetons"


def plan(
    steps: int | None, epochs: float | None, tokens_per_step: int, accumulate: int, seconds: float | None
) -> str:
    """La longueur de l'entraînement, en pas, époques et jetons, et sa durée estimée (secondes)."""
    if steps is None or epochs is None:
        length = "jusqu'à la limite de temps"
    else:
        length = f"{number(steps)} pas, {number(epochs, 1)} époques, {number(steps * tokens_per_step)} jetons"
    batch = f"{number(tokens_per_step)} jetons par pas"
    if accumulate > 1:
        batch += f" ({accumulate} lots accumulés)"
    time = "" if seconds is None else f"\n             environ {duration(seconds)} au débit mesuré"
    return f"Plan       : {length} ; {batch}{time}"


def optimizer(name: str, lr: float, tokens_per_step: int) -> str:
    """L'optimiseur, son taux d'apprentissage au sommet, et le lot auquel il s'applique."""
    rate = f"{lr:.4g}".replace(".", ",")
    return (
        f"Optimiseur : {name}, taux d'apprentissage {rate} pour des pas de {number(tokens_per_step)} jetons"
    )


def sweep_job(number: int, overrides: Sequence[str]) -> str:
    """La tâche d'un balayage qui commence."""
    return f"Balayage   : tâche {number}, {' '.join(overrides)}"


def own_text() -> str:
    """`data.path=` sans `data=`."""
    return "Corpus     : data.path= sans data= : c'est data=text"


def left_out(files: Sequence[tuple[Any, str]]) -> str:
    """Les fichiers d'un dossier qui ne sont pas lus, comptés par raison, et le premier."""
    counted = Counter(reason for _, reason in files).most_common()
    listed = ", ".join(f"{reason} × {n}" for reason, n in counted)
    return f"Corpus     : {number(len(files))} laissé{'s' * (len(files) > 1)} de côté ({listed}), dont {files[0][0]}"


def building(folder: str) -> str:
    """Une base de jetons va être écrite dans `folder`."""
    return f"Base       : le texte, le tokenizer ou le découpage est nouveau, les jetons sont écrits dans {folder}"


def encoding(characters: int, seconds: float) -> str:
    """Où en est l'écriture d'une base de jetons."""
    millions = characters / 1e6
    return f"             {number(millions)} M de caractères encodés, {number(millions / seconds, 1)} M/s"


def tokens(contents: Any, characters: int, tokenizer: Any, most: int = 10) -> str:
    """Les jetons d'une base : combien par caractère, et les plus fréquents."""
    total, used = int(contents.counts.sum()), int((contents.counts > 0).sum())
    frequent = sorted(range(len(contents.counts)), key=lambda i: -contents.counts[i])[:most]
    listed = ", ".join(
        f"{tokenizer.decode([i])!r} {100 * contents.counts[i] / total:.1f} %" for i in frequent
    )
    return (
        f"Jetons     : {number(total)}, soit {number(total / characters, 3)} par caractère ; "
        f"vocabulaire employé {number(used)} sur {number(len(contents.counts))}\n"
        f"             les plus fréquents : {listed}"
    )


def starting(output_dir: str) -> str:
    """Le dossier de l'exécution."""
    return f"Dossier    : {output_dir}"


def resuming(checkpoint: str, step: int) -> str:
    """Le checkpoint repris, et son pas d'optimiseur."""
    return f"Reprise    : {checkpoint}, pas {number(step)}"


def speed(metrics: Mapping[str, float]) -> str:
    """La perte et le débit, pour la barre de progression ; vide avant la première mesure."""
    if "train/loss" not in metrics:
        return ""
    return f"perte {number(metrics['train/loss'], 3)} · {number(metrics['tokens_per_second'])} jetons/s"


def evaluation(step: int, total: int | None, metrics: Mapping[str, float], left: float | None) -> str:
    """La ligne d'une évaluation : pas, pertes (nats par jeton), débit, temps restant (secondes)."""
    line = f"pas {number(step)}" + (f"/{number(total)}" if total else "")
    if "train/loss" in metrics:
        line += f" | entraînement {number(metrics['train/loss'], 3)}"
    more = f"exactitude {percent(metrics['val/accuracy'])}" if "val/accuracy" in metrics else ""
    more = more or f"perplexité {number(metrics['val/perplexity'], 1)}"
    line += f" | validation {number(metrics['val/loss'], 3)} ({more})"
    if "tokens_per_second" in metrics:
        line += f" | {number(metrics['tokens_per_second'])} jetons/s"
    return line + (f" | reste {duration(left)}" if left else "")


def unknown_prompt(prompt: str) -> str:
    """Le tokenizer ne connaît pas le texte d'exemple."""
    return (
        f"Exemple    : le tokenizer ne sait pas lire « {prompt} », les textes d'exemple commencent sans lui "
        f"(prompt=... en donne un autre)"
    )


def sample(text: str) -> str:
    """Un texte d'exemple, sur une ligne."""
    return "    « " + " ".join(text.split()) + " »"


def finished(
    output_dir: str,
    results: Mapping[str, Any],
    seconds: float,
    files: Sequence[str],
    following: Sequence[str],
) -> str:
    """La table de la fin : la perte (nats par jeton), ce qu'elle a coûté, ce qui est écrit, les commandes suivantes."""
    last, best = results["val/loss"], results["best"]
    best = last if best is None else best
    lines = [("perte de validation", f"{number(last, 4)} ; la meilleure {number(best, 4)}")]
    if "val/accuracy" in results:
        lines.append(("exactitude", quality(results["val/accuracy"], results["val/f1"])))
        lines += results["baselines"]
    else:
        lines.append(("perplexité", f"la meilleure {number(math.exp(min(best, 700)), 1)}"))
    if "val/bits_per_byte" in results:
        lines.append(("bits par octet", number(results["val/bits_per_byte"], 3)))
    lines += [("jetons", number(results["tokens"])), ("durée", duration(seconds))]
    if "tokens_per_second" in results:
        lines.append(("débit", f"{number(results['tokens_per_second'])} jetons/s, à la fin"))
    if "mfu" in results:
        lines.append(("part de la crête", f"{number(100 * results['mfu'], 1)} % (MFU)"))
    if results["memory"] is not None:
        lines += [("pic de mémoire", magnitude(results["memory"], "o"))]
    lines += [("place prise", magnitude(results["disk"], "o")), ("fichiers", ", ".join(files))]
    table = "\n".join(f"  {name:<20} {value}" for name, value in lines)
    return f"\nFini.\n{table}\nDossier    : {output_dir}\nEt maintenant :\n" + "\n".join(
        f"    {line}" for line in following
    )


def stopping(signal: str) -> str:
    """Un signal vient d'arriver pendant l'entraînement."""
    again = " (encore une fois pour sortir aussitôt)" if signal == "Ctrl-C" else ""
    return f"\n{signal} : le pas en cours se termine, puis l'entraînement est sauvé{again}."


def interrupted(signal: str, step: int, kept: str | None, again: str) -> str:
    """L'entraînement a été interrompu à ce pas : ce qui est gardé, et comment continuer."""
    if kept is None:
        return (
            f"\nInterrompu par {signal} au pas {number(step)}. Rien n'est gardé : callbacks.last est retiré."
        )
    return f"\nInterrompu par {signal} au pas {number(step)}. Gardé : {kept}. Pour continuer :\n    {again}"


def another_run(key: str, before: object, now: object) -> str:
    """Un réglage qu'une reprise ne change pas."""
    old, new = ("null" if one is None else one for one in (before, now))
    return (
        f"Reprise refusée : {key} valait {old}, il vaut {new} ; ce serait un autre entraînement : retirez {key}=, "
        f"ou partez des poids avec init_from=."
    )


def another_corpus(before: str, now: str) -> str:
    """Les jetons, leur découpage ou leur tokenizer ont changé."""
    return (
        f"Reprise refusée : le corpus n'est plus le même (empreinte {before}, maintenant {now}) : redonnez le texte "
        f"d'origine (data.path=), ou partez des poids avec init_from=."
    )


def another_world(before: int, now: int, tokens_before: int, tokens_now: int) -> str:
    """Le nombre de processus a changé, et le lot global avec lui."""
    return (
        f"Reprise refusée : {before} processus lisaient {tokens_before} jetons par pas, {now} en liraient "
        f"{tokens_now} : ajoutez global_batch_tokens={tokens_before} pour le même entraînement."
    )


def run_is_alive(folder: str, owner: Mapping[str, object] | None) -> str:
    """Un autre entraînement écrit dans ce dossier."""
    who = f" (processus {owner.get('pid')} de {owner.get('host')})" if owner else ""
    return f"{folder} est celui d'un entraînement en cours{who} : attendez sa fin, ou choisissez un autre output_dir=."


def no_checkpoint_yet(folder: str, taken: str) -> str:
    """Une exécution plus récente, interrompue avant son premier checkpoint, n'est pas celle que `last` reprend."""
    return f"{folder} s'est arrêtée avant son premier checkpoint : la reprise est celle de {taken}."


def not_resumed(key: str, known: bool) -> str:
    """Un réglage qu'une reprise ne prend pas d'un dossier."""
    return f"{key} n'est pas repris de ce dossier : redonnez-le ({'' if known else '+'}{key}=...) si vous y tenez."


def another_process_died() -> str:
    """Un autre processus de l'entraînement est mort."""
    return (
        "Un autre processus de cet entraînement s'est arrêté : sa fin est dite plus haut, s'il l'a dite ; reprenez au "
        "dernier checkpoint avec ckpt_path=."
    )


def sweep_table(
    keys: Sequence[str], rows: Sequence[tuple[int, Sequence[str], float | None]], folder: str
) -> str:
    """Les tâches d'un balayage : leurs clés, leur perte de validation (nats par jeton), la meilleure marquée.

    Une tâche sans perte a échoué.
    """
    best = min((loss for *_, loss in rows if loss is not None and loss == loss), default=math.nan)
    table = [("tâche", *keys, "perte de validation", "")]
    for job, values, loss in rows:
        shown = ("échec", "") if loss is None else (number(loss, 4), "la meilleure" if loss == best else "")
        table.append((str(job), *values, *shown))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
    return f"\nBalayage fini, dans {folder}\n" + "\n".join(f"  {line}".rstrip() for line in lines)


def nothing_left_to_do(step: int) -> str:
    """L'entraînement repris est déjà à son dernier pas."""
    return (
        f"Rien à faire : cet entraînement est à son dernier pas ({number(step)}) ; "
        f"prolongez-le, par exemple trainer.max_steps={2 * step}."
    )


def command_list(commands: Mapping[str, str]) -> str:
    """Les commandes du projet, une par ligne."""
    lines = "\n".join(f"  {name:<10} {sentence}" for name, sentence in commands.items())
    return (
        f"python -m gpt_lightning <commande> clé=valeur ...\n\n{lines}\n\n"
        f"L'aide de chacune : python -m gpt_lightning <commande> --help\n"
        f"Les démonstrations : python -m gpt_lightning.demos.strategies\n"
        f"  ou : top_k, temperature, attention, nucleus, schedule"
    )


def unknown_command(name: str, commands: Iterable[str]) -> str:
    """Une commande qui n'existe pas, et la plus proche."""
    listed = list(commands)
    close = difflib.get_close_matches(name, listed, n=1)
    hint = f" : vouliez-vous dire {close[0]} ?" if close else "."
    return f"La commande « {name} » n'existe pas{hint} Les commandes sont {', '.join(listed)}."


def moved_command(name: str) -> str:
    """L'ancienne forme d'une commande."""
    return f"Cette commande s'écrit maintenant : python -m gpt_lightning {name} ..."


def no_run_yet() -> str:
    """Il n'y a aucun modèle sous outputs/."""
    return "Aucun modèle entraîné sous outputs/ : lancez d'abord « python train.py »."


COMMANDS = {
    "text": ("continuer un texte", "python generate.py"),
    "instruct": ("répondre à des questions", "python -m gpt_lightning chat"),
    "classify": ("classer un texte", "python -m gpt_lightning classify"),
}


def no_run_of(task: str) -> str:
    """Des modèles sont entraînés, mais aucun pour cela."""
    how = "python train.py" + ("" if task == "text" else f" experiment={task}")
    return f"Aucun modèle sous outputs/ ne sait {COMMANDS[task][0]} : lancez d'abord « {how} »."


def wrong_task(source: str, task: str) -> str:
    """Ce modèle fait autre chose que ce que la commande demande."""
    what, command = COMMANDS[task]
    return f"{source} sait {what} : sa commande est « {command} ckpt_path={source} »."


def another_base(path: str, base: str, source: str, given: str, other: str) -> str:
    """Des adaptateurs, et un modèle qui n'est pas celui sur lequel ils ont appris."""
    came = f"{source}, " if source else ""
    return (
        f"{path} a été appris sur un autre modèle ({came}empreinte {base}) que {given} (empreinte {other}) : donnez "
        f"base_path= le sien."
    )


def base_found(source: str) -> str:
    """La base d'adaptateurs, retrouvée."""
    return f"Base       : {source}, retrouvée par son empreinte"


def no_base(path: str, base: str, source: str) -> str:
    """Des adaptateurs dont la base n'est pas ici."""
    came = f", qui venait de {source}" if source else ""
    return (
        f"{path} n'a que des adaptateurs, et leur base (empreinte {base}{came}) n'est pas ici : donnez-la avec "
        f"base_path=."
    )


def not_a_source(key: str, source: str) -> str:
    """`ckpt_path`, ou `init_from`, ne désigne rien de connu."""
    return f"{key}={source} : ni dossier d'exécution, ni fichier de poids, ni last, ni best."


def guessed_heads(path: str, n_heads: int) -> str:
    """Le nombre de têtes a été deviné."""
    return f"{path} ne dit pas son nombre de têtes : {n_heads} (emb_dim / 64) ; n_heads= pour en donner un autre."


def no_tokenizer(source: str) -> str:
    """La source des poids n'a pas de tokenizer."""
    return (
        f"{source} ne dit pas son tokenizer, et son texte ne peut pas être encodé : mettez son tokenizer.json (ou "
        f"vocab.json et merges.txt) à côté des poids, ou partez-en avec train.py init_from={source} tokenizer=gpt2."
    )


def unread_tokenizer(folder: str, why: str) -> str:
    """Un dossier de Hugging Face dont le tokenizer ne se lit pas."""
    return f"{folder} : son tokenizer ne se lit pas, {why} ; les poids se chargent, le texte non."


def starting_from(source: str, parameters: int, own_tokenizer: bool) -> str:
    """Les poids de départ, et le tokenizer qui va avec."""
    tokenizer = "avec son tokenizer" if own_tokenizer else "le tokenizer est celui de tokenizer="
    return f"Départ     : {source}, {parameters_of(parameters)}, {tokenizer}"


def exported(folder: str, form: str, parameters: int) -> str:
    """Les poids sont écrits."""
    return f"{parameters_of(parameters)} écrits dans {folder} (format {form})."


def tokenizer_stays(kind: str) -> str:
    """Le tokenizer ne s'exporte pas chez Hugging Face."""
    return f"Le tokenizer {kind} n'a pas d'équivalent chez Hugging Face : il est dans gpt_lightning.json seulement."


def unknown_key(key: str, close: Sequence[str]) -> str:
    """Une clé qui n'existe pas, et les plus proches."""
    hint = f" : vouliez-vous dire {' ou '.join(close)} ?" if close else " ; « --cfg job » les montre toutes."
    return f"La clé « {key} » n'existe pas{hint}"


def unknown_choice(group: str, choice: str, choices: Sequence[str], close: Sequence[str]) -> str:
    """Un choix qui n'existe pas dans un groupe, le plus proche, et tous les autres."""
    hint = f"vouliez-vous dire {group}={close[0]} ? " if close else ""
    return f"{group}={choice} n'existe pas : {hint}Les choix sont {', '.join(choices)}."


def not_an_override(text: str) -> str:
    """Un argument qui n'est pas clé=valeur."""
    return f"« {text} » ne se comprend pas : il faut clé=valeur, comme model=mini ou optim.lr=0.001."


def refused_target(target: str) -> str:
    """Un `_target_` hors de la liste permise."""
    return (
        f"_target_: {target} est refusé : une configuration ne peut construire que des objets de "
        f"gpt_lightning, lightning et torch.optim."
    )


def no_variable(name: str) -> str:
    """Une variable d'environnement que la configuration lit, et qui n'est pas là."""
    return f"La variable d'environnement {name} manque : la configuration la lit (export {name}=...)."


def refused_settings(group: str, target: str, why: str) -> str:
    """Un objet d'une bibliothèque qui refuse ses réglages, dans ses mots."""
    first = " ".join(why.split())[:200]
    return f"{target.rpartition('.')[2]} refuse ces réglages de {group} : {first.rstrip('.')}."


def refused_hydra(key: str) -> str:
    """Un réglage de Hydra qui exécuterait autre chose que le projet."""
    return f"{key} est refusé : une configuration ne dit pas à Hydra quoi exécuter ; retirez cette clé."


def another_conf() -> str:
    """--config-path ou --config-name."""
    return (
        "--config-path est refusé : conf/ est celle du projet ; --config-dir=mon_dossier y ajoute les vôtres."
    )


def os_error(filename: str, code: int, reason: str) -> str:
    """Ce que le système refuse, en français pour les refus courants."""
    known = {
        errno.ENOENT: "n'existe pas",
        errno.EACCES: "accès refusé",
        errno.EPERM: "accès refusé",
        errno.EISDIR: "est un dossier, il faut un fichier",
        errno.ENOTDIR: "un élément de ce chemin n'est pas un dossier",
        errno.EEXIST: "existe déjà",
        errno.ENOSPC: "le disque est plein",
        errno.EROFS: "le disque est en lecture seule",
    }
    return f"{filename} : {known.get(code, reason)}."


_WHAT = {1: "la perte n'est", 2: "le gradient n'est", 3: "ni la perte ni le gradient ne sont"}


def diverged(step: int, where: str, code: int, in_a_row: int) -> str:
    """Un pas a divergé, et l'entraînement s'arrête."""
    many = f" C'est le {number(in_a_row)}e de suite." if in_a_row > 1 else ""
    what = _WHAT[code] if code == 3 else f"{_WHAT[code]} pas"
    return (
        f"Au pas {number(step)} ({where}), {what} un nombre fini : ce pas est annulé, l'entraînement s'arrête, et rien "
        f"n'en est gardé.{many} Reprenez avec un taux plus bas (optim.lr=), ou nan_policy=skip, qui passe ces pas."
    )


def skipped(step: int, where: str, code: int) -> str:
    """Un pas qui a divergé, et qui est passé."""
    what = _WHAT[code] if code == 3 else f"{_WHAT[code]} pas"
    return f"Au pas {number(step)} ({where}), {what} un nombre fini : ce pas est annulé."


def diverged_evaluation(step: int) -> str:
    """La perte de validation n'est pas un nombre."""
    return (
        f"L'évaluation du pas {number(step)} ne donne pas un nombre fini : l'entraînement s'arrête, et rien n'en est "
        f"gardé. Reprenez avec un taux plus bas (optim.lr=), ou trainer.precision=32-true."
    )


def place(epoch: int, first: int, last: int) -> str:
    """Ce que lit un pas : ses fenêtres, dans l'ordre de l'époque."""
    return f"époque {number(epoch + 1)}, fenêtres {number(first)} à {number(last)} de son ordre"


def cannot_resume(path: str, why: str) -> str:
    """Un checkpoint que Lightning ou l'optimiseur ne savent pas relire."""
    return f"{path} ne se reprend pas ({why}) : init_from= part de ses poids seuls."


def no_kernel(dtype: str, following: str) -> str:
    """Ce torch ne sait pas multiplier ce type ici."""
    return f"dtype={dtype} : ce torch n'en a pas le produit sur ce processeur ; dtype={following} est pris à sa place."


def slow_kernel(dtype: str) -> str:
    """Le processeur n'a pas le bf16 : les mêmes textes, pour un moindre gain."""
    return (
        f"dtype={dtype} : ce processeur n'a pas le bf16, ses produits y gagnent moins ; le texte est le même."
    )


def compiling() -> str:
    """La compilation du pas de génération commence."""
    return "compile=true : la compilation commence, une minute à peu près."


def compiled(seconds: float) -> str:
    """Le temps qu'elle a pris."""
    return f"Compilé en {duration(seconds)}."


def cannot_compile(name: str, why: str) -> str:
    """torch n'a pas pu compiler : le plus souvent, le compilateur C++ manque."""
    first = next((line for line in why.splitlines() if line and not line.endswith(":")), "")[:160]
    return (
        f"compile=true, mais torch ne peut pas compiler ici ({name} : {first}) : installez un compilateur C++ (g++), "
        f"ou compile=false."
    )


def damaged(why: str, following: str) -> str:
    """Un checkpoint abîmé, et celui qui le remplace."""
    return f"{why} {following} est pris à sa place."


def cannot_write(path: str, code: int, reason: str) -> str:
    """Une écriture que le système refuse, et quoi faire."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    why, advice = {
        **dict.fromkeys(full, ("le disque est plein", "libérez de la place, ou choisissez un autre dossier")),
        errno.EROFS: ("le disque est en lecture seule", "choisissez un autre dossier"),
        errno.EACCES: ("accès refusé", "changez les droits du dossier, ou choisissez-en un autre"),
        errno.EPERM: ("accès refusé", "changez les droits du dossier, ou choisissez-en un autre"),
        errno.ENOENT: ("son dossier n'existe plus", "rendez-lui sa place, ou choisissez un autre dossier"),
        errno.ENOTDIR: ("un élément de ce chemin n'est pas un dossier", "choisissez un autre dossier"),
        errno.EISDIR: ("c'est un dossier", "choisissez un autre nom"),
        errno.EIO: ("le disque ne répond pas", "vérifiez-le, ou choisissez un autre dossier"),
    }.get(code, (reason, "vérifiez ce disque, ou choisissez un autre dossier"))
    return f"{path} ne s'écrit pas ({why}) : {advice}."


def goes_on(why: str) -> str:
    """Ce qui ne s'écrit pas, et dont l'entraînement se passe."""
    return f"{why} L'entraînement continue sans."


def generated(
    source: str, *, reasons: Sequence[str | None], tokens: int, seconds: float, first: float | None
) -> str:
    """Le résumé d'une génération ; une raison None est une suite interrompue."""
    why = {"eos": "fin de texte", "stop": "texte d'arrêt", "length": "longueur atteinte", None: "interrompu"}
    counted = {reason: list(reasons).count(reason) for reason in reasons}
    ends = ", ".join(why[r] if len(reasons) == 1 else f"{why[r]} × {n}" for r, n in counted.items())
    parts = [source, f"{number(tokens)} jetons"]
    if seconds:
        parts.append(f"{number(tokens / seconds, 1)} jetons/s")
    if first is not None:
        parts.append(f"premier jeton en {number(first, 2)} s")
    return f"[{' · '.join([*parts, ends])}]"


def likelihood(logprobs: Sequence[float]) -> str:
    """La log-probabilité (nats) des jetons produits."""
    mean = sum(logprobs) / len(logprobs)
    return f"[log-probabilité moyenne {number(mean, 3)} nat par jeton, {number(sum(logprobs), 2)} en tout]"


def unread(tokens: int, context: int) -> str:
    """Les jetons du texte de départ qui n'entrent pas dans le contexte."""
    return (
        f"[le texte dépasse le contexte de {context} jetons : les {number(tokens)} premiers ne sont pas lus]"
    )


def nothing_piped() -> str:
    """L'entrée standard est un tuyau où rien n'est venu."""
    return "[rien sur l'entrée standard : texte de départ par défaut ; « - » l'attendrait]"


def evaluated(source: str, corpus: str, score: Any) -> str:
    """Le résultat d'une évaluation."""
    return (
        f"Modèle           {source}\n"
        f"Corpus           {corpus}\n"
        f"Perte            {number(score.loss, 4)} nats par jeton\n"
        f"Perplexité       {number(score.perplexity, 2)}\n"
        f"Bits par octet   {number(score.bits_per_byte, 4)}\n"
        f"Jetons prédits   {number(score.tokens)}, pour {number(score.bytes)} octets"
    )


def evaluated_classes(source: str, corpus: str, loss: float, report: Any, labels: Sequence[str]) -> str:
    """Le résultat d'une évaluation de classement."""
    return (
        f"Modèle           {source}\n"
        f"Corpus           {corpus}\n"
        f"Perte            {number(loss, 4)} nats par texte\n"
        f"Exactitude       {percent(report.accuracy)} de {number(int(report.counts.sum()))} textes\n"
        f"F1 moyen         {number(report.macro_f1, 4)}\n"
        f"{class_table(report, labels)}"
    )


def comparing() -> str:
    """Les méthodes simples s'apprennent, pour comparer."""
    return "Comparé à   : les mêmes textes, par des méthodes sans réseau..."


def quality(accuracy: float, f1: float) -> str:
    """Ce qu'un classement vaut."""
    return f"{percent(accuracy)} ; F1 moyen {number(f1, 3)}"


def label_shares(labels: Sequence[str], shares: Sequence[float]) -> str:
    """L'étiquette d'un texte, puis ce que le modèle donne à chacune, de la plus probable à la moins probable."""
    order = sorted(range(len(labels)), key=lambda rank: -shares[rank])
    width = max(len(labels[rank]) for rank in order)
    rows = [f"  {labels[rank]:<{width}}  {percent(shares[rank])}" for rank in order]
    return "\n".join([labels[order[0]], *rows])


def cut_texts(count: int, length: int) -> str:
    """Des textes plus longs que ce que le modèle lit d'un texte."""
    plural = "s" * (count > 1)
    return f"{number(count)} texte{plural} coupé{plural} à {number(length)} jetons : le modèle ne lit pas plus loin."


def classified(text: str, label: str, share: float) -> str:
    """Un texte, et l'étiquette que le modèle lui donne."""
    short = " ".join(text.split())
    return f"{short if len(short) <= 100 else short[:99] + '…'}\n» {label} ({percent(share)})"


def class_table(report: Any, labels: Sequence[str]) -> str:
    """Une ligne par étiquette : précision, rappel, F1, et combien de textes l'ont."""
    width = max(len("étiquette"), *(min(len(label), 30) for label in labels))
    rows = [f"{'étiquette':<{width}}  précision  rappel     F1  textes"]
    for rank, label in enumerate(labels):
        precision, recall, f1 = (float(one[rank]) for one in (report.precision, report.recall, report.f1))
        rows.append(
            f"{label[:30]:<{width}}  {number(precision, 3):>9}  {number(recall, 3):>6}  {number(f1, 3):>5}  "
            f"{number(int(report.counts[rank].sum())):>6}"
        )
    return "\n".join(rows)


def tokens_done(done: int, total: int, seconds: float) -> str:
    """Où en est une évaluation."""
    left = duration(seconds / done * (total - done))
    return f"{number(done)} jetons sur {number(total)}, {number(done / seconds)} jetons/s, reste {left}"


def chat_help(source: str) -> str:
    """Ce que l'on peut taper pendant une conversation."""
    return (
        f"[{source}]\n"
        "Une ligne est une question ; Ctrl-C arrête la réponse.\n"
        "  /nouveau               recommence la conversation\n"
        "  /systeme TEXTE         donne une consigne, en tête\n"
        "  /regler CLÉ VALEUR     change un réglage : temperature 0.7, top_k 20, decoding greedy, longueur 80, seed 3\n"
        "  /aide, /quitter"
    )


def never_instructed(source: str) -> str:
    """Un modèle de texte à qui l'on pose une question."""
    return (
        f"{source} n'a jamais appris à répondre : il continue le texte. « python train.py experiment=instruct » le lui "
        "apprend."
    )


def new_conversation() -> str:
    """/nouveau a été tapé."""
    return "[nouvelle conversation]"


def turns_dropped(count: int) -> str:
    """Le début de la conversation ne tient plus dans la fenêtre."""
    which = "le plus vieux tour est oublié" if count == 1 else f"les {count} plus vieux tours sont oubliés"
    return f"[{which} : la conversation dépasse la fenêtre du modèle]"


def question_too_long(tokens: int, room: int) -> str:
    """Une question qui ne tient pas, seule."""
    return (
        f"Cette question fait {number(tokens)} jetons, et la fenêtre du modèle en laisse {number(room)} : "
        "raccourcissez-la."
    )


def answer_stopped() -> str:
    """Ctrl-C pendant une réponse."""
    return "[réponse arrêtée]"


def lines_done(done: int, total: int, seconds: float) -> str:
    """Où en est un fichier de textes de départ."""
    left = f", reste {duration(seconds / done * (total - done))}" if done and done < total else ""
    return f"{number(done)} textes sur {number(total)}{left}"


def dialogue_help() -> str:
    """Les commandes du dialogue."""
    return """Un texte, puis Entrée : le modèle le continue. Ctrl-C arrête le texte, Ctrl-D ou /quitter la séance.
  /decoding nucleus    une autre stratégie de conf/decoding
  /temperature 0.7     une clé de la stratégie : /top_k 40, /top_p 0.9, /num_beams 4 ...
  /seed 3              un texte reproductible ; /seed null tire au sort
  /longueur 200        jetons à produire au plus
  /reset               les réglages du départ
  /aide  /quitter"""


def serving(address: str, source: str, name: str, chats: bool) -> str:
    """Le serveur écoute."""
    routes = "/v1/completions" + (" et /v1/chat/completions" if chats else "")
    return (
        f"Le serveur écoute {address} : {source}, sous le nom « {name} ».\n"
        f"  La page : {address}/ ; {routes}, /v1/models, /health, /metrics. Ctrl-C l'arrête."
    )


def closing(seconds: float) -> str:
    """Le serveur s'arrête."""
    return f"Arrêt : ce qui s'écrit se finit, {seconds:g} s au plus ; un second Ctrl-C n'attend pas."


def needs_a_key(host: str, variable: str) -> str:
    """Écouter le réseau sans clé."""
    return (
        f"host={host} ouvre ce serveur au réseau : donnez une clé (export {variable}=..., ou api_key_file=), ou dites "
        f"open=true si tout le monde peut s'en servir."
    )


def visible_key(variable: str) -> str:
    """Une clé sur la ligne de commande."""
    return (
        f"api_key= se voit dans la liste des processus et l'historique du terminal : préférez {variable} ou "
        f"api_key_file=."
    )


def job_failed() -> str:
    """Une demande a échoué par la faute du serveur."""
    return "Le serveur n'a pas pu répondre : son journal dit pourquoi."


def no_route(method: str, path: str, status: int) -> str:
    """Une route qui n'existe pas, ou qui ne se demande pas ainsi."""
    if status == 405:
        return f"{path} ne se demande pas par {method}."
    return f"{path} n'existe pas ici : /v1/models, /v1/completions, /v1/chat/completions, /health, /metrics."
