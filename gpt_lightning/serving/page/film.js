// Le film de l'entraînement : un curseur, et toute la page montre le modèle qu'il était à ce pas.

import { ask, useFilm } from "./api.js";
import { $ } from "./dom.js";
import { number, say } from "./words.js";

const TURN = 1500; // millisecondes d'une image à la suivante, quand le film se joue
const NEWS = 10_000; // millisecondes avant de demander s'il en est de nouvelles
let steps = [];
let playing = null;
let changed = () => {};

// `told` est appelée quand le modèle montré n'est plus le même.
export async function openFilm(told) {
  changed = told;
  $("step").oninput = () => {
    stop();
    show();
  };
  $("roll").onclick = () => (playing ? stop() : roll());
  await hear();
  clearInterval(openFilm.news);
  openFilm.news = setInterval(() => document.visibilityState === "visible" && hear().catch(() => {}), NEWS);
}

// Demande les pas : une exécution en cours en ajoute, et en retire. Le curseur reste au pas où il était, ou au plus
// proche ; à la fin s'il y était.
async function hear() {
  const found = (await ask("api/film")).steps;
  if (JSON.stringify(found) === JSON.stringify(steps)) return name();
  const here = step();
  steps = found;
  $("film").hidden = steps.length < 2;
  $("step").max = steps.length; // un cran de plus : le modèle lui-même
  $("step").value = here === null ? steps.length : nearest(here);
  if (step() === here) name();
  else show();
}

function nearest(wanted) {
  const away = steps.map((one) => Math.abs(one - wanted));
  return Math.max(0, away.indexOf(Math.min(...away)));
}

const step = () => steps[Number($("step").value)] ?? null;

function name() {
  const said = step() === null ? say("film_end") : say("film_step", { n: number(step()) });
  $("step-name").textContent = said;
  $("step").setAttribute("aria-valuetext", said);
  $("roll").textContent = say(playing ? "film_stop" : "film_roll");
}

function show() {
  useFilm(step());
  name();
  changed();
}

function roll() {
  if (step() === null) $("step").value = -1; // du début
  const turn = () => {
    $("step").value = Number($("step").value) + (playing ? 1 : 0);
    playing ??= setInterval(turn, TURN);
    if (step() === null) stop();
    show();
  };
  turn();
}

function stop() {
  clearInterval(playing);
  playing = null;
}

// La langue a changé.
export const nameFilm = () => name();
