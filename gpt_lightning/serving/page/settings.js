// Les réglages : des curseurs, ce qu'ils valent pour le serveur, pour l'adresse et pour generate.py.

import { $, make } from "./dom.js";
import { DEFAULTS } from "./filters.js";
import { number, say } from "./words.js";

// nom, bornes, pas, et la valeur du curseur qui veut dire « rien »
const SLIDERS = [
  ["repetition_penalty", 1, 2, 0.05, 1],
  ["temperature", 0, 2, 0.05, 1],
  ["top_k", 0, 200, 1, 0],
  ["top_p", 0, 1, 0.01, 1],
  ["min_p", 0, 0.5, 0.005, 0],
  ["typical_p", 0, 1, 0.01, 1],
];
const NEUTRAL = Object.fromEntries(SLIDERS.map(([name, , , , neutral]) => [name, neutral]));
const FIRST = { temperature: 0.8, top_p: 0.9 }; // ceux de generate.py
const inputs = {};

export function openSettings(changed) {
  $("sliders").replaceChildren();
  for (const [name, min, max, step, neutral] of SLIDERS) {
    const value = inputs[name]?.value ?? String(FIRST[name] ?? neutral);
    const input = make("input", { type: "range", min, max, step, id: `set-${name}` });
    input.value = value;
    const shown = make("output", {});
    const label = make("label", { className: "slider" }, make("span", {}, make("b", {}, say(`name_${name}`)), make("code", {}, name), shown), input, make("small", {}, say(name)));
    const show = () => {
      const off = Number(input.value) === neutral && DEFAULTS[name] === null;
      shown.textContent = off ? "–" : number(Number(input.value), 3);
    };
    input.addEventListener("input", () => {
      show();
      changed();
    });
    inputs[name] = input;
    show();
    $("sliders").append(label);
  }
  $("reset").onclick = () => {
    set(FIRST);
    changed();
  };
}

export function set(values) {
  for (const [name, input] of Object.entries(inputs)) {
    input.value = values[name] ?? NEUTRAL[name];
    input.dispatchEvent(new Event("input"));
  }
}

export function settings() {
  const found = { ...DEFAULTS };
  for (const [name, input] of Object.entries(inputs)) {
    const value = Number(input.value);
    found[name] = value === NEUTRAL[name] && DEFAULTS[name] === null ? null : value;
  }
  return found;
}

// Ce qui n'est pas par défaut : le corps d'une demande, les clés de l'adresse.
export function asked(values = settings()) {
  return Object.fromEntries(Object.entries(values).filter(([name, value]) => value !== null && value !== DEFAULTS[name]));
}

// Les mêmes, pour generate.py.
export function typed(values) {
  const others = Object.entries(asked(values)).filter(([name]) => name !== "temperature");
  const kept = values.temperature === 0 ? others.filter(([name]) => name === "repetition_penalty") : others;
  return ["decoding=greedy", ...(values.temperature === 0 ? [] : [`decoding.temperature=${values.temperature}`]),
    ...kept.map(([name, value]) => `decoding.${name}=${value}`)];
}
