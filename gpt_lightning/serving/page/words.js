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
    model: "{name} : {parameters} de paramètres, {layers} {layers#couche#couches}, {heads} {heads#tête#têtes}, {vocabulary} jetons, {context} de contexte",
    gone: "Le serveur ne répond plus : relancez python -m gpt_lightning serve.",
    need_key: "Ce serveur demande sa clé.",
    wrong_key: "Cette clé n'est pas celle de ce serveur : donnez la sienne.",
    restarted: "Le serveur a redémarré, peut-être avec un autre modèle : sa réponse est écartée, recommencez.",
    not_ours: "Ce n'est pas ce serveur qui répond (HTTP {n}) : il est arrêté, ou un proxy, ou une page de connexion, répond à sa place.",
    entropy: "Entropie : {before} {before#bit#bits} avant les filtres, {after} après ; {kept} {kept#jeton reste#jetons restent} sur {all}.",
    mass: "{name} écarte {mass} de la probabilité ; {kept} {kept#jeton reste#jetons restent}.",
    sharpens: "{name} n'écarte aucun jeton, mais déforme les probabilités.",
    total: "{n} {n#jeton mesuré#jetons mesurés} sur {tokens} (rien ne précède le premier) : {bits} {bits#bit#bits} en tout, {mean} {mean#bit#bits} par jeton ; perplexité {perplexity}.",
    surprising: "Le plus surprenant : {token}, {bits} {bits#bit#bits} ; le modèle attendait plutôt {expected} ({share}).", surprising_expected: "Le plus surprenant : {token}, {bits} {bits#bit#bits} ; c'est pourtant celui que le modèle attendait le plus ({share}).",
    one_token: "Un seul jeton : rien ne le précède, il n'y a rien à mesurer.",
    before: "avant", after: "après", rank: "rang {n}", bits: "{n} {n#bit#bits}", pair_of: "{a} : {b}", legend_chance: "La chance que le modèle lui donnait :", legend_bits: "La surprise, en bits :",
    space_ends: "Le texte finit par une espace : or ce modèle attend le mot suivant avec son espace devant. Retirez-la, il continuera mieux.", first: "le premier jeton",
    unread: "{n#Le premier jeton sort#Les {n} premiers jetons sortent} du contexte : le modèle ne {n#le#les} lit pas.",
    cut: "{n#Seul le dernier jeton est dessiné#Seuls les {n} derniers jetons sont dessinés}.",
    forgotten: "La conversation dépasse le contexte du modèle : tours oubliés, les plus vieux d'abord : {n}.",
    ended: "Fin du texte.", full: "{n} {n#jeton écrit#jetons écrits}.",
    other_model: "Un autre modèle a écrit cette branche : continuez le texte pour en ouvrir une.",
    branch: "Branche {n}", no_command: "Ces jetons ne sont pas ceux que le tokenizer ferait de ce texte : aucune commande ne les redonne.",
    film: "Pendant l'entraînement :", film_step: "au pas {n}", film_end: "le modèle entraîné", film_roll: "Rejouer", film_stop: "Pause",
    head: "Tête {n}", you: "Vous", it: "Le modèle", none: "(rien)",
    name_temperature: "Température", name_top_k: "Nombre de candidats", name_top_p: "Part gardée", name_min_p: "Chance minimale", name_typical_p: "Surprise ordinaire", name_repetition_penalty: "Répétitions",
    temperature: "Basse, il joue sûr ; haute, il ose ; à 0, il prend toujours le plus probable. Elle divise les logits.",
    top_k: "Petit, il n'hésite qu'entre quelques jetons, les plus probables ; tout à gauche : tous.",
    top_p: "Basse, il écarte les idées rares : il garde les plus probables jusqu'à cette somme ; 1 : tous.",
    min_p: "Haute, il écarte ceux qui sont loin derrière le favori : moins de cette fraction de sa probabilité ; 0 : tous.",
    typical_p: "Basse, il n'est ni trop attendu ni trop étrange : la surprise reste près de la moyenne, jusqu'à cette somme ; 1 : tous.",
    repetition_penalty: "Haute, il se répète moins : un jeton déjà dans le texte devient moins probable ; 1 : sans effet.",
    learn_more: "D'où ils viennent : docs/decodage.md",
    tab_trace: "D'où vient-ce", least: "Mots d'un passage, au moins", traced: "Le texte, passage par passage",
    hint_trace: "Ce qui est teinté est mot pour mot dans le corpus d'entraînement, d'autant plus vif que le passage est long. Choisissez-en un : voici d'où il vient.",
    searching: "Le corpus est relu ; la première fois, son index se construit...",
    covered: "{share} de ces mots sont dans des passages d'au moins {n} {n#mot#mots}, venus tels quels du corpus.",
    copied_share: "Part copiée : {share}. N'y comptent que les passages d'au moins {n} {n#mot#mots}, trop longs pour n'être qu'un hasard.", more_passages: "Et {n} {n#autre, pas plus long#autres, pas plus longs}.",
    passage: "{n} {n#mot#mots}", passage_times: "{n} {n#mot#mots}, {times} fois", place: "document {n}{name}, caractère {character}",
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
    model: "{name}: {parameters} parameters, {layers} {layers#layer#layers}, {heads} {heads#head#heads}, {vocabulary} tokens, context of {context}",
    gone: "The server no longer answers: run python -m gpt_lightning serve again.",
    need_key: "This server asks for its key.",
    wrong_key: "This key is not the one of this server: give its own.",
    restarted: "The server was restarted, maybe with another model: its answer is dropped, do it again.",
    not_ours: "It is not this server that answers (HTTP {n}): it is stopped, or a proxy, or a sign-in page, answers in its place.",
    entropy: "Entropy: {before} {before#bit#bits} before the filters, {after} after; {kept} {kept#token remains#tokens remain} of {all}.",
    mass: "{name} removes {mass} of the probability; {kept} {kept#token remains#tokens remain}.",
    sharpens: "{name} removes no token, but bends the probabilities.",
    total: "{n} {n#token#tokens} measured of {tokens} (nothing comes before the first): {bits} {bits#bit#bits} in all, {mean} {mean#bit#bits} per token; perplexity {perplexity}.",
    surprising: "The most surprising: {token}, {bits} {bits#bit#bits}; the model rather expected {expected} ({share}).", surprising_expected: "The most surprising: {token}, {bits} {bits#bit#bits}; yet it is the one the model expected most ({share}).",
    one_token: "A single token: nothing comes before it, there is nothing to measure.",
    before: "before", after: "after", rank: "rank {n}", bits: "{n} {n#bit#bits}", pair_of: "{a}: {b}", legend_chance: "The chance that the model gave it:", legend_bits: "The surprise, in bits:",
    space_ends: "The text ends with a space, while this model expects the next word with its space in front. Remove it, and the model goes on better.", first: "the first token",
    unread: "{n#The first token falls#The first {n} tokens fall} out of the context: the model does not read {n#it#them}.",
    cut: "{n#Only the last token is drawn#Only the last {n} tokens are drawn}.",
    forgotten: "The conversation no longer fits in the model's context: oldest turns forgotten: {n}.",
    ended: "End of text.", full: "{n} {n#token#tokens} written.",
    other_model: "Another model wrote this branch: continue the text to open one.",
    branch: "Branch {n}", no_command: "These tokens are not those that the tokenizer would make of this text: no command gives them back.",
    film: "During training:", film_step: "at step {n}", film_end: "the trained model", film_roll: "Replay", film_stop: "Pause",
    head: "Head {n}", you: "You", it: "The model", none: "(nothing)",
    name_temperature: "Temperature", name_top_k: "How many candidates", name_top_p: "Share kept", name_min_p: "Least chance", name_typical_p: "Usual surprise", name_repetition_penalty: "Repeating",
    temperature: "Low, it plays safe; high, it dares; at 0, it always takes the most probable. It divides the logits.",
    top_k: "Small, it only wavers between a few tokens, the most probable; far left: all of them.",
    top_p: "Low, it drops rare ideas: it keeps the most probable up to this sum; 1: all.",
    min_p: "High, it drops those far behind the favourite: less than this fraction of its probability; 0: all.",
    typical_p: "Low, it is neither too plain nor too odd: the surprise stays near the average, up to this sum; 1: all.",
    repetition_penalty: "High, it repeats itself less: a token already in the text becomes less probable; 1: no effect.",
    learn_more: "Where they come from: docs/decodage.md (in French)",
    tab_trace: "Where from", least: "Words in a passage, at least", traced: "The text, passage by passage",
    hint_trace: "What is tinted stands word for word in the training corpus, the brighter the longer. Pick a passage: this is where it comes from.",
    searching: "The corpus is being read; the first time, its index is built...",
    covered: "{share} of these words are in passages of at least {n} {n#word#words}, taken as they are from the corpus.",
    copied_share: "Copied share: {share}. Only passages of at least {n} {n#word#words} count in it, too long to be chance.", more_passages: "And {n} more, no longer.",
    passage: "{n} {n#word#words}", passage_times: "{n} {n#word#words}, {times} {times#time#times}", place: "document {n}{name}, character {character}",
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

// Le texte `key`. « {n#jeton#jetons} » s'accorde avec le nombre n ; en français, ce qui ne se sépare pas reste ensemble.
export function say(key, values = {}) {
  const single = (value) => (language === "fr" ? /^-?[01](,|$)/ : /^1$/).test(String(value));
  const text = (WORDS[language][key] ?? INSIDE[language][key])
    .replace(/\{(\w+)#((?:[^{}#]|\{\w+\})*)#((?:[^{}#]|\{\w+\})*)\}/g, (_, name, one, many) => (single(values[name]) ? one : many));
  const together = language === "fr" ? text.replace(/ ([:;?!%»])/g, "\u00a0$1").replaceAll("« ", "«\u00a0") : text;
  return together.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export const colon = (a, b) => say("pair_of", { a, b });

export function number(value, digits = 2) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}

export function percent(value) {
  const sign = language === "fr" ? "\u00a0%" : "%";
  if (value > 0 && value < 0.0001) return `<\u00a0${number(0.01)}${sign}`;
  return `${number(100 * value, value < 0.1 ? 2 : 1)}${sign}`;
}
