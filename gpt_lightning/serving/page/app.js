// La page : les onglets, la langue, le thème, l'adresse. Chaque vue est dans son fichier.

import { ask, useKey } from "./api.js";
import { openAttention } from "./attention.js";
import { openChat } from "./chat.js";
import { openContinue } from "./continue.js";
import { $, arrows, tell, tellFault } from "./dom.js";
import { openNext, redrawSoon } from "./next.js";
import { openScore } from "./score.js";
import { asked, openSettings, set } from "./settings.js";
import { number, say, speak, spoken } from "./words.js";

const VIEWS = ["continue", "next", "score", "attention", "chat"];
let model = null;

function view(name) {
  for (const one of VIEWS) {
    const chosen = one === name;
    $(one).hidden = !chosen;
    $(`tab-${one}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${one}`).tabIndex = chosen ? 0 : -1;
  }
  document.querySelector(".source").hidden = name === "chat";
  $("settings").hidden = name === "score" || name === "attention"; // ils n'y changent rien
}

const viewed = () => VIEWS.find((one) => !$(one).hidden);

// L'adresse garde le texte, la graine et les réglages après le « # » : rien n'en est envoyé.
function link() {
  const found = new URLSearchParams({ text: $("text").value, seed: $("seed").value, length: $("length").value, view: viewed() });
  for (const [name, value] of Object.entries(asked())) found.set(name, value);
  return `${location.origin}${location.pathname}#${found}`;
}

function follow() {
  const found = new URLSearchParams(location.hash.slice(1));
  if (!found.has("text") && !found.has("view")) return; // « Aller au contenu » a aussi un « # »
  $("text").value = found.get("text") ?? "";
  if (/^\d+$/.test(found.get("seed") ?? "")) $("seed").value = found.get("seed");
  if (/^\d+$/.test(found.get("length") ?? "")) $("length").value = found.get("length");
  const values = {};
  for (const [name, value] of found) if (Number.isFinite(Number(value)) && value !== "") values[name] = Number(value);
  set(values);
  if (VIEWS.includes(found.get("view"))) view(found.get("view"));
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

async function meet() {
  tell(say("loading"));
  try {
    model = await ask("/api/model");
    $("key").hidden = true;
    present();
    $("docs").hidden = !model.docs;
    if (!$("text").value && !location.hash.includes("text=")) $("text").value = model.prompt;
    openContinue(model);
    openAttention(model);
    openChat(model);
    tell("");
  } catch (error) {
    tellFault(error);
  }
}

function start() {
  speak(localStorage.getItem("language") ?? "fr"); // le français d'abord
  paint(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  openSettings(redrawSoon);
  openNext();
  openScore();
  const name = () => {
    const other = spoken() === "fr" ? "en" : "fr";
    $("language").textContent = other === "fr" ? "Français" : "English";
    $("language").lang = other;
  };
  name();
  $("language").onclick = () => {
    speak(spoken() === "fr" ? "en" : "fr");
    localStorage.setItem("language", spoken());
    name();
    openSettings(redrawSoon);
    present();
    redrawSoon();
  };
  $("theme").onclick = () => {
    paint(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    localStorage.setItem("theme", document.documentElement.dataset.theme);
  };
  $("share").onclick = async () => {
    const address = link();
    history.replaceState(null, "", address);
    try {
      await navigator.clipboard.writeText(address);
      tell(say("copied"));
    } catch {
      tell(say("not_copied", { n: address }));
    }
  };
  $("key").onsubmit = (event) => {
    event.preventDefault();
    useKey($("key-value").value.trim());
    meet();
  };
  for (const one of VIEWS) {
    $(`tab-${one}`).onclick = () => view(one);
    $(`tab-${one}`).onfocus = () => view(one);
  }
  arrows($("tabs"), '[role="tab"]:not([hidden])');
  addEventListener("hashchange", follow);
  view("continue");
  follow();
  meet();
}

start();
