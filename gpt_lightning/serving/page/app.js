// La page : les onglets, la langue, le thème, l'adresse. Chaque vue est dans son fichier.

import { ask, openServer, useKey, useOther } from "./api.js";
import { openAttention } from "./attention.js";
import { allowed, lasting } from "./browser.js";
import { openChat } from "./chat.js";
import { openCompare } from "./compare.js";
import { openContinue, reshow } from "./continue.js";
import { $, arrows, bounded, copy, tell, tellFault } from "./dom.js";
import { change, draw, looked, openInside } from "./inside.js";
import { openLive, pulse, retell, stale } from "./live.js";
import { nameFilm, openFilm } from "./film.js";
import { openNext, redrawSoon } from "./next.js";
import { PARTS } from "./parts.js";
import { openScore } from "./score.js";
import { asked, openSettings, set } from "./settings.js";
import { STOPS, go, openTour, toured } from "./tour.js";
import { openTrace } from "./trace.js";
import { number, say, speak, spoken } from "./words.js";

const VIEWS = ["continue", "next", "score", "attention", "inside", "compare", "trace", "chat"];
const UNSET = ["score", "attention", "inside", "trace"]; // les réglages n'y changent rien
let model = null;
let greeted = false; // le modèle s'est déjà présenté
let second = false; // l'interrupteur : le second modèle répond

function view(name) {
  if (viewed() !== name) tell(""); // ce qu'il disait était d'une autre vue
  for (const one of VIEWS) {
    const chosen = one === name;
    $(one).hidden = !chosen;
    $(`tab-${one}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${one}`).tabIndex = chosen ? 0 : -1;
  }
  document.querySelector(".source").hidden = name === "chat";
  $("settings").hidden = UNSET.includes(name);
  $("main").classList.toggle("wide", $("settings").hidden);
  pulse(0);
}

// Un onglet choisi est une entrée de l'historique : le bouton Retour montre le précédent, et le texte reste.
function choose(name) {
  if (viewed() === name) return;
  view(name);
  allowed(() => history.pushState({ view: name }, "", `#view=${name}`));
}

const viewed = () => VIEWS.find((one) => !$(one).hidden);

function changed() {
  redrawSoon();
  pulse();
}

// L'adresse garde le texte, la graine et les réglages après le « # » : rien n'en est envoyé.
function link() {
  const found = new URLSearchParams({ text: $("text").value, seed: $("seed").value, length: $("length").value, view: viewed() });
  for (const [name, value] of Object.entries(asked())) found.set(name, value);
  if (viewed() === "inside") {
    const { part, layer, head } = looked();
    for (const [name, value] of Object.entries({ part, layer, head, ...(toured() ? { tour: toured() } : {}) })) found.set(name, value);
  }
  return `${location.href.split("#")[0]}#${found}`;
}

function follow() {
  const found = new URLSearchParams(location.hash.slice(1));
  if (!found.has("text") && !found.has("view")) return; // « Aller au contenu » a aussi un « # »
  if (found.has("text")) $("text").value = found.get("text");
  if (/^\d+$/.test(found.get("seed") ?? "")) $("seed").value = found.get("seed");
  if (/^\d+$/.test(found.get("length") ?? "")) $("length").value = found.get("length");
  for (const name of ["seed", "length"]) $(name).value = bounded($(name));
  const values = {};
  for (const [name, value] of found) if (Number.isFinite(Number(value)) && value !== "") values[name] = Number(value);
  if (found.has("text")) set(values);
  spaced();
  pulse(0);
  if (VIEWS.includes(found.get("view"))) view(found.get("view"));
  if (model) followInside();
}

// Un texte qui finit par une espace, quand les mots du vocabulaire portent la leur devant.
function spaced() {
  $("space").hidden = !(model?.spaced && $("text").value.endsWith(" "));
}

// L'étape, la couche, la tête et l'arrêt de la visite que dit l'adresse, une fois le modèle présenté.
function followInside() {
  const found = new URLSearchParams(location.hash.slice(1));
  if (found.get("view") !== "inside") return;
  const rank = (name, most) => Math.min(most, Math.max(0, Number.parseInt(found.get(name), 10) || 0));
  const values = Object.hasOwn(PARTS, found.get("part") ?? "") ? { part: found.get("part") } : {};
  if (found.has("layer")) values.layer = rank("layer", model.layers - 1);
  if (found.has("head")) values.head = rank("head", model.heads - 1);
  change(values);
  if (found.has("tour")) go(rank("tour", STOPS.length));
}

// L'interrupteur : « play compare= », ou un adaptateur et le modèle qu'il change.
function presentOther() {
  $("other").hidden = !model.other;
  if (!model.other) return;
  const { adapter, names } = model.other;
  $("other").textContent = adapter ? say(second ? "adapter_off" : "adapter_on") : say("use_other", { name: names[second ? 1 : 0] });
  $("other").setAttribute("aria-pressed", String(second));
}

function paint(theme) {
  document.documentElement.dataset.theme = theme;
}

function present() {
  if (!model) return;
  $("model").textContent = say("model", {
    name: model.name, parameters: magnitude(model.parameters), layers: model.layers, heads: model.heads,
    vocabulary: number(model.vocabulary), context: number(model.context),
  });
}

function magnitude(count) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (count >= size) return `${number(count / size, 1)} ${unit}`;
  return number(count);
}

// Fait connaissance avec le modèle, et le présente. `quiet` : la ligne d'état dit déjà pourquoi.
async function meet(quiet = false) {
  if (!quiet) tell(say("loading"));
  try {
    const answering = await ask("api/model");
    if (JSON.stringify(answering) !== JSON.stringify(model)) model = answering;
    $("key").hidden = true;
    present();
    presentOther();
    $("docs").hidden = !model.docs;
    if (!$("text").value && !location.hash.includes("text=")) $("text").value = model.prompt;
    for (const open of [openContinue, openNext, openScore, openAttention, openInside, openCompare, openChat, openTrace]) open(model);
    spaced();
    openTour(model, () => choose("inside"));
    openLive(viewed);
    openFilm(stale).catch(tellFault);
    if (!greeted) followInside();
    greeted = true;
    stale();
    if (!quiet) tell("");
  } catch (error) {
    tellFault(error);
  }
}

function start() {
  speak(lasting.get("language") ?? "fr"); // le français d'abord
  const dark = allowed(() => matchMedia("(prefers-color-scheme: dark)").matches, false);
  paint(lasting.get("theme") ?? (dark ? "dark" : "light"));
  openSettings(changed);
  const name = () => {
    const other = spoken() === "fr" ? "en" : "fr";
    $("language").textContent = other === "fr" ? "Français" : "English";
    $("language").lang = other;
  };
  name();
  $("language").onclick = () => {
    speak(spoken() === "fr" ? "en" : "fr");
    lasting.set("language", spoken());
    name();
    openSettings(changed);
    present();
    if (model) presentOther();
    nameFilm();
    const fault = $("status").classList.contains("fault");
    tell("");
    reshow();
    retell(fault ? null : "continue"); // un texte déjà écrit se redit sans se récrire
    if (looked().seen) draw();
    if (toured()) go(toured());
    redrawSoon();
  };
  $("other").onclick = () => {
    second = !second;
    useOther(second);
    meet();
  };
  $("theme").onclick = () => {
    paint(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    lasting.set("theme", document.documentElement.dataset.theme);
  };
  $("share").onclick = () => {
    const address = link();
    allowed(() => history.replaceState({ view: viewed() }, "", address));
    copy(address);
  };
  $("key").onsubmit = (event) => {
    event.preventDefault();
    useKey($("key-value").value.trim());
    meet();
  };
  for (const one of VIEWS) {
    $(`tab-${one}`).onclick = () => choose(one);
    $(`tab-${one}`).onfocus = () => choose(one);
  }
  arrows($("tabs"), '[role="tab"]:not([hidden])');
  for (const name of ["text", "seed", "length"]) $(name).addEventListener("input", () => pulse());
  for (const name of ["seed", "length", "least"]) $(name).addEventListener("change", () => ($(name).value = bounded($(name))));
  $("text").addEventListener("input", spaced);
  openServer(() => meet(true));
  addEventListener("popstate", ({ state }) => (VIEWS.includes(state?.view) ? view(state.view) : follow()));
  view("continue");
  follow();
  allowed(() => history.replaceState({ view: viewed() }, ""));
  meet();
}

start();
