// La page suit le texte : la vue montrée se refait dès que ce dont elle dépend change, et la demande d'avant s'arrête,
// jusque dans le serveur, qui voit sa connexion se fermer.

import { $, tell, tellFault } from "./dom.js";
import { say } from "./words.js";

const TYPING = 60; // millisecondes sans une frappe avant de demander
const views = {};
let shown = () => null; // le nom de la vue montrée
let waiting = null;
let running = null;
let told = ""; // la faute qu'une vue a dite d'elle-même

// `wants()` est ce dont la vue dépend, un texte ; `refresh(signal)` la refait.
export function followText(name, wants, refresh) {
  views[name] = { wants, refresh, done: null, asking: null };
}

export function openLive(viewed) {
  shown = viewed;
}

// Quelque chose a changé : la vue montrée se refera, si elle en dépend.
export function pulse(wait = TYPING) {
  clearTimeout(waiting);
  waiting = setTimeout(run, wait);
  $("main").setAttribute("aria-busy", "true");
}

// La vue montre déjà ce qu'elle doit : une personne vient de le demander.
export function settle(name) {
  clearTimeout(waiting);
  waiting = null;
  views[name].asking = null;
  running?.abort();
  running = null;
  views[name].done = views[name].wants();
  $("main").setAttribute("aria-busy", "false");
}

// Un autre modèle répond : plus rien de ce qui est montré n'est de lui.
export function stale() {
  retell(null);
}

// La langue a changé : chaque vue se redit, sauf celle qui vient de le faire.
export function retell(except) {
  for (const [name, one] of Object.entries(views)) if (name !== except) one.done = null;
  pulse(0);
}

async function run() {
  waiting = null;
  const view = views[shown()];
  const wanted = view?.wants();
  if (!view || wanted === view.done) return idle();
  running?.abort();
  const control = (running = view.asking = new AbortController());
  view.done = wanted;
  try {
    await view.refresh(control.signal);
    if (running === control && $("status").classList.contains("fault") && isOver($("status").textContent)) tell("");
  } catch (error) {
    if (running === control && error.name !== "AbortError") {
      view.done = null; // en revenant à cette vue, on la redemande, et la faute se redit
      tellFault(error);
      told = error.message;
    } else if (view.asking === control) view.done = null; // une autre vue l'a interrompue : elle reste à faire
  } finally {
    if (running === control) running = null;
    idle();
  }
}

// Une faute est passée quand la vue répond ; que le serveur a redémarré reste à lire, si c'est un clic qui l'a appris.
function isOver(fault) {
  const own = fault === told;
  told = "";
  return own || fault !== say("restarted");
}

function idle() {
  if (!running && waiting === null) $("main").setAttribute("aria-busy", "false");
}
