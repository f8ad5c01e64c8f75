// Ce que les vues partagent : des éléments, des jetons, la ligne d'état. Un texte n'est jamais du HTML.

import { Fault } from "./api.js";
import { copies } from "./browser.js";
import { number, percent, say } from "./words.js";

let fading = null;

export const $ = (id) => document.getElementById(id);

export function make(name, options = {}, ...children) {
  const { data, aria, ...properties } = options;
  const one = Object.assign(document.createElement(name), properties);
  for (const [key, value] of Object.entries(data ?? {})) one.dataset[key] = value;
  for (const [key, value] of Object.entries(aria ?? {})) one.setAttribute(key === "role" ? key : `aria-${key}`, value);
  one.append(...children);
  return one;
}

// Une faute, et ce qui dure, restent ; le reste s'efface.
export function tell(sentence, fault = false) {
  clearTimeout(fading);
  if (sentence && !fault && !sentence.endsWith("...")) fading = setTimeout(() => tell(""), 8000);
  $("status").textContent = sentence;
  $("status").classList.toggle("fault", fault);
}

// Montre une faute ; un arrêt demandé n'en est pas une. Celle qu'on n'attendait pas se lit aussi dans la console.
export function tellFault(error) {
  if (error.name === "AbortError") return tell(say("stopped"));
  if (error.status === 401) $("key").hidden = false;
  tell(error.message, true);
  if (!(error instanceof Fault)) throw error;
}

// Copie un texte, ou le montre si le navigateur ne laisse pas copier.
export async function copy(text) {
  tell((await copies(text)) ? say("copied") : say("not_copied", { n: text }));
}

// Un travail et son bouton : rien d'autre ne commence pendant qu'il dure, et ce qui rate se dit.
export async function working(button, sentence, work) {
  const label = button.disabled;
  button.disabled = true;
  tell(say(sentence));
  try {
    await work();
    if ($("status").textContent === say(sentence)) tell("");
  } catch (error) {
    tellFault(error);
  } finally {
    button.disabled = label;
  }
}

const VISIBLE = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };

// Le texte d'un jeton : un morceau de caractère montre ses octets, un blanc se voit si `visible`.
// `text` est ce qu'il ajoute au texte : un mot y prend son espace, et le dernier octet d'un caractère le caractère entier.
export function tokenText({ token, bytes, text }, visible = false) {
  if (text && !visible) return text;
  if (token.startsWith("bytes:") && bytes.length && !isText(bytes)) return bytes.map((one) => `⟨${one.toString(16).padStart(2, "0")}⟩`).join("");
  if (!visible) return token;
  const shown = token.replace(/[ \n\t\r]/g, (one) => VISIBLE[one]);
  return shown || say("none");
}

function isText(bytes) {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(bytes));
    return true;
  } catch {
    return false;
  }
}

export function tint(probability) {
  return `p${[0.01, 0.05, 0.2, 0.5].filter((one) => probability >= one).length}`;
}

// Des jetons que l'on parcourt avec les flèches ; `chosen(rang)` est appelé quand l'un est regardé.
export function tokenRow(box, tokens, { visible = false, shade, chosen }) {
  const nodes = tokens.map((one, rank) => {
    const node = make("button", { type: "button", className: `token ${visible ? "bordered" : ""} ${shade(one)}` });
    const text = tokenText(one, visible);
    node.append(visible && one.token.includes("\n") ? `${text}\n` : text);
    if (text.startsWith("⟨")) node.classList.add("raw");
    node.setAttribute("aria-label", `${tokenText(one, true)}, ${one.logprob === null ? say("first") : percent(Math.exp(one.logprob))}`);
    node.tabIndex = rank ? -1 : 0;
    const look = () => chosen(rank, node);
    node.addEventListener("click", look);
    node.addEventListener("focus", look);
    node.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && look());
    return node;
  });
  box.append(...nodes);
  return nodes;
}

export function current(box, node) {
  for (const one of box.querySelectorAll('[aria-current="true"]')) one.removeAttribute("aria-current");
  node?.setAttribute("aria-current", "true");
}

// Les flèches passent d'un jeton à l'autre, Début et Fin vont aux bouts.
export function arrows(box, selector) {
  box.addEventListener("keydown", (event) => {
    const all = [...box.querySelectorAll(selector)];
    const here = all.indexOf(document.activeElement);
    const where = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: all.length - 1 }[event.key];
    if (here < 0 || where === undefined || !all[where]) return;
    event.preventDefault();
    for (const one of all) one.tabIndex = -1;
    all[where].tabIndex = 0;
    all[where].focus();
  });
}

// Une ligne : le jeton, sa probabilité avant et après les filtres.
export function bar(one, before, after, options = {}) {
  const track = make("span", { className: "track" });
  for (const [value, name] of [[before, ""], [after, "after"]]) {
    if (value === null) continue;
    const part = make("span", { className: name });
    part.style.width = `${100 * value}%`;
    track.append(part);
  }
  const both = after !== null && !options.short;
  const numbers = both ? `${percent(before)} → ${percent(after)}` : percent(after ?? before);
  const label = make("span", { className: "name" }, tokenText(one, true));
  if (label.textContent.startsWith("⟨")) label.classList.add("raw");
  const row = make(options.pick ? "button" : "div", { className: "candidate", data: { id: one.id } }, label, track, make("span", { className: "number" }, numbers));
  if (options.pick) {
    row.type = "button";
    row.addEventListener("click", options.pick);
    row.setAttribute("aria-pressed", String(Boolean(options.chosen)));
  } else row.setAttribute("role", "listitem");
  return row;
}

export const bits = (logprob) => -logprob / Math.LN2;
export const shownBits = (logprob) => say("bits", { n: number(bits(logprob), 1) });
