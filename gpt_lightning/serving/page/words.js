// Les textes de la page, en français et en anglais. « {n} » est remplacé.

import { INSIDE } from "./words_inside.js";

const WORDS = {
  fr: {
    skip: "Aller au contenu", share: "Copier le lien", theme: "Clair ou sombre", tabs: "Vues", text: "Texte",
    tab_continue: "Continuer", tab_next: "Le jeton suivant", tab_score: "Surprise", tab_attention: "Attention",
    tab_chat: "Converser", key: "Clé du serveur", send: "Envoyer", write: "Continuer le texte", stop: "Arrêter",
    back: "Revenir d'un pas", copy: "Copier la commande", length: "Jetons", seed: "Graine",
    written: "Le texte écrit, jeton par jeton", branches: "Branches",
    hint_continue: "Le modèle continue le texte. La teinte d'un jeton dit sa probabilité ; survolez-le, touchez-le ou allez-y avec les flèches : voici ceux entre lesquels il a été choisi. Choisissez-en un autre, et le texte repart de là.",
    hint_next: "Tout ce que le modèle sait est là : une probabilité pour chaque jeton du vocabulaire. Les réglages, à côté, la déforment sous vos yeux.",
    hint_score: "Combien chaque jeton a surpris le modèle, en bits : zéro, il l'attendait ; dix, il lui donnait une chance sur mille.",
    hint_attention: "Où chaque tête regarde : une ligne par jeton qui lit, une colonne par jeton lu. Le futur est masqué.",
    hint_chat: "Une conversation avec un modèle qui a appris à répondre.",
    hint_settings: "Chaque réglage est un filtre, appliqué dans cet ordre.",
    settings: "Réglages", reset: "Tout remettre", strategies: "Quatre stratégies côte à côte",
    bars: "Les candidats", measured: "Le texte, jeton par jeton", layer: "Couche",
    question: "Question", forget: "Nouvelle conversation",
    loading: "Le modèle se présente...", reading: "Le modèle lit...", writing: "Le modèle écrit...",
    stopped: "Arrêté.", copied: "Copié.",
    not_copied: "Le navigateur ne laisse pas copier : {n}",
    model: "{name} : {parameters} de paramètres, {layers} couches, {heads} têtes, {vocabulary} jetons, {context} de contexte",
    gone: "Le serveur ne répond plus : relancez python -m gpt_lightning serve.",
    need_key: "Ce serveur demande sa clé.",
    wrong_key: "Cette clé n'est pas celle de ce serveur : donnez la sienne.",
    restarted: "Le serveur a redémarré, peut-être avec un autre modèle : sa réponse est écartée, recommencez.",
    not_ours: "Ce n'est pas ce serveur qui répond (HTTP {n}) : il est arrêté, ou un proxy, ou une page de connexion, répond à sa place.",
    entropy: "Entropie : {before} bits avant les filtres, {after} après ; {kept} jetons restent sur {all}.",
    mass: "{name} écarte {mass} de la probabilité ; {kept} jetons restent.",
    sharpens: "{name} n'écarte aucun jeton, mais déforme les probabilités.",
    total: "{tokens} jetons, {bits} bits en tout, {mean} bits par jeton ; perplexité {perplexity}.",
    one_token: "Un seul jeton : rien ne le précède, il n'y a rien à mesurer.",
    before: "avant", after: "après", rank: "rang {n}", bits: "{n} bits", first: "le premier jeton",
    unread: "Les {n} premiers jetons sortent du contexte : le modèle ne les lit pas.",
    cut: "Seuls les {n} derniers jetons sont dessinés.",
    forgotten: "La conversation dépasse le contexte du modèle : tours oubliés, les plus vieux d'abord : {n}.",
    ended: "Fin du texte.", full: "{n} jetons écrits.",
    other_model: "Un autre modèle a écrit cette branche : continuez le texte pour en ouvrir une.",
    branch: "Branche {n}", no_command: "Ces jetons ne sont pas ceux que le tokenizer ferait de ce texte : aucune commande ne les redonne.",
    film: "Pendant l'entraînement :", film_step: "au pas {n}", film_end: "le modèle entraîné", film_roll: "Rejouer", film_stop: "Pause",
    head: "Tête {n}", you: "Vous", it: "Le modèle", none: "(rien)",
    temperature: "Divise les logits : moins de 1 aiguise, plus de 1 aplatit, 0 choisit le plus probable.",
    top_k: "Garde les k jetons les plus probables ; tout à gauche : tous.",
    top_p: "Garde les plus probables jusqu'à cette somme ; 1 : tous.",
    min_p: "Garde ceux qui sont au moins tant de fois aussi probables que le premier ; 0 : tous.",
    typical_p: "Garde ceux dont la surprise est proche de la moyenne, jusqu'à cette somme ; 1 : tous.",
    repetition_penalty: "Plus de 1 : un jeton déjà dans le texte devient moins probable.",
    learn_more: "D'où ils viennent : docs/decodage.md",
    tab_trace: "D'où vient-ce", least: "Mots d'un passage, au moins", traced: "Le texte, passage par passage",
    hint_trace: "Ce qui est teinté est mot pour mot dans le corpus d'entraînement, d'autant plus vif que le passage est long. Choisissez-en un : voici d'où il vient.",
    searching: "Le corpus est relu ; la première fois, son index se construit...",
    copied_share: "Part copiée : {share}, en passages d'au moins {n} mots.", more_passages: "Et {n} autres, pas plus longs.",
    passage: "{n} mots", passage_times: "{n} mots, {times} fois", place: "document {n}{name}, caractère {character}",
  },
  en: {
    skip: "Skip to content", share: "Copy link", theme: "Light or dark", tabs: "Views", text: "Text",
    tab_continue: "Continue", tab_next: "The next token", tab_score: "Surprise", tab_attention: "Attention",
    tab_chat: "Chat", key: "Server key", send: "Send", write: "Continue the text", stop: "Stop",
    back: "One step back", copy: "Copy the command", length: "Tokens", seed: "Seed",
    written: "The text written, token by token", branches: "Branches",
    hint_continue: "The model continues the text. The tint of a token is its probability; hover, tap or reach it with the arrow keys: these are the ones it was chosen among. Pick another one, and the text goes on from there.",
    hint_next: "All that the model knows is here: a probability for each token of the vocabulary. The settings beside it bend it before your eyes.",
    hint_score: "How much each token surprised the model, in bits: zero, it was expected; ten, it was given one chance in a thousand.",
    hint_attention: "Where each head looks: one row per reading token, one column per token read. The future is masked.",
    hint_chat: "A conversation with a model that learned to answer.",
    hint_settings: "Each setting is a filter, applied in this order.",
    settings: "Settings", reset: "Reset all", strategies: "Four strategies side by side",
    bars: "The candidates", measured: "The text, token by token", layer: "Layer",
    question: "Question", forget: "New conversation",
    loading: "The model introduces itself...", reading: "The model is reading...", writing: "The model is writing...",
    stopped: "Stopped.", copied: "Copied.",
    not_copied: "The browser does not allow copying: {n}",
    model: "{name}: {parameters} parameters, {layers} layers, {heads} heads, {vocabulary} tokens, context of {context}",
    gone: "The server no longer answers: run python -m gpt_lightning serve again.",
    need_key: "This server asks for its key.",
    wrong_key: "This key is not the one of this server: give its own.",
    restarted: "The server was restarted, maybe with another model: its answer is dropped, do it again.",
    not_ours: "It is not this server that answers (HTTP {n}): it is stopped, or a proxy, or a sign-in page, answers in its place.",
    entropy: "Entropy: {before} bits before the filters, {after} after; {kept} tokens remain of {all}.",
    mass: "{name} removes {mass} of the probability; {kept} tokens remain.",
    sharpens: "{name} removes no token, but bends the probabilities.",
    total: "{tokens} tokens, {bits} bits in all, {mean} bits per token; perplexity {perplexity}.",
    one_token: "A single token: nothing comes before it, there is nothing to measure.",
    before: "before", after: "after", rank: "rank {n}", bits: "{n} bits", first: "the first token",
    unread: "The first {n} tokens fall out of the context: the model does not read them.",
    cut: "Only the last {n} tokens are drawn.",
    forgotten: "The conversation no longer fits in the model's context: oldest turns forgotten: {n}.",
    ended: "End of text.", full: "{n} tokens written.",
    other_model: "Another model wrote this branch: continue the text to open one.",
    branch: "Branch {n}", no_command: "These tokens are not those that the tokenizer would make of this text: no command gives them back.",
    film: "During training:", film_step: "at step {n}", film_end: "the trained model", film_roll: "Replay", film_stop: "Pause",
    head: "Head {n}", you: "You", it: "The model", none: "(nothing)",
    temperature: "Divides the logits: below 1 sharpens, above 1 flattens, 0 picks the most probable.",
    top_k: "Keeps the k most probable tokens; far left: all of them.",
    top_p: "Keeps the most probable up to this sum; 1: all.",
    min_p: "Keeps those at least this many times as probable as the first; 0: all.",
    typical_p: "Keeps those whose surprise is close to the average, up to this sum; 1: all.",
    repetition_penalty: "Above 1: a token already in the text becomes less probable.",
    learn_more: "Where they come from: docs/decodage.md (in French)",
    tab_trace: "Where from", least: "Words in a passage, at least", traced: "The text, passage by passage",
    hint_trace: "What is tinted stands word for word in the training corpus, the brighter the longer. Pick a passage: this is where it comes from.",
    searching: "The corpus is being read; the first time, its index is built...",
    copied_share: "Copied share: {share}, in passages of at least {n} words.", more_passages: "And {n} more, no longer.",
    passage: "{n} words", passage_times: "{n} words, {times} times", place: "document {n}{name}, character {character}",
  },
};

let language = "fr";

export function speak(chosen) {
  language = chosen in WORDS ? chosen : "fr";
  document.documentElement.lang = language;
  for (const one of document.querySelectorAll("[data-t]")) one.textContent = say(one.dataset.t);
  for (const one of document.querySelectorAll("[data-t-label]")) one.setAttribute("aria-label", say(one.dataset.tLabel));
}

export const spoken = () => language;

export function say(key, values = {}) {
  return (WORDS[language][key] ?? INSIDE[language][key]).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export function number(value, digits = 2) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}

export function percent(value) {
  if (value > 0 && value < 0.0001) return `< ${number(0.01)} %`;
  return `${number(100 * value, value < 0.1 ? 2 : 1)} %`;
}
