// Dessiner des nombres : des cartes, des bandes, des barres. Rien ici ne parle à personne.
// Les couleurs sont transparentes : le fond de la carte, clair ou sombre, passe dessous.

import { make } from "./dom.js";

const PLUS = [47, 104, 224];
const MINUS = [224, 82, 54];

// Une carte de `rows` lignes : l'encre de chaque case est sa part du plus grand nombre. `signed` : le rouge est négatif ;
// `hidden(ligne, colonne)` : une case que l'on ne voit pas.
export function heat(values, rows, columns, { signed = false, hidden = null, label = "" } = {}) {
  const canvas = make("canvas", { width: columns, height: rows, className: "heat", aria: { role: "img", label } });
  const context = canvas.getContext("2d");
  if (!context) return canvas; // le navigateur refuse de dessiner : les nombres, à côté, disent tout
  const image = context.createImageData(columns, rows);
  let most = 1e-12;
  for (let i = 0; i < values.length; i++) {
    if (!hidden?.(Math.floor(i / columns), i % columns)) most = Math.max(most, Math.abs(values[i]));
  }
  for (let i = 0; i < rows * columns; i++) {
    const dark = hidden?.(Math.floor(i / columns), i % columns);
    const part = signed ? Math.abs(values[i]) / most : Math.sqrt(Math.max(0, values[i] / most)); // la racine rend visibles les petits
    image.data.set(dark ? [128, 128, 128, 60] : [...(values[i] < 0 ? MINUS : PLUS), Math.round(255 * part)], 4 * i);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// Une carte que l'on survole ou que l'on touche : `told(ligne, colonne)` reçoit la case.
export function pointed(canvas, told) {
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const [row, column] = [[event.clientY - box.top, box.height, canvas.height], [event.clientX - box.left, box.width, canvas.width]]
      .map(([place, size, count]) => Math.min(count - 1, Math.max(0, Math.floor((place / size) * count))));
    told(row, column);
  });
  return canvas;
}

// Un vecteur : une bande d'une ligne.
export function strip(values, label) {
  const canvas = heat(values, 1, values.length, { signed: true, label });
  canvas.classList.add("strip");
  return canvas;
}

// Des barres : [[nom, valeur, texte du nombre, choisie]], la plus grande remplit la place.
export function meters(rows, { most = null, pick = null } = {}) {
  const top = most ?? Math.max(1e-12, ...rows.map(([, value]) => Math.abs(value)));
  return make("div", { className: "bars meters", aria: { role: pick ? "group" : "list" } }, ...rows.map(([name, value, text, chosen], rank) => {
    const ink = make("span", { className: "after whole" });
    ink.style.width = `${Math.min(100, (100 * Math.abs(value)) / top)}%`;
    const row = make(pick ? "button" : "div", { className: "candidate" }, make("span", { className: "name" }, name), make("span", { className: "track" }, ink), make("span", { className: "number" }, text));
    if (pick) {
      row.type = "button";
      row.onclick = () => pick(rank);
      row.setAttribute("aria-pressed", String(Boolean(chosen)));
    } else row.setAttribute("role", "listitem");
    return row;
  }));
}

export const line = (values, columns, row) => values.subarray(row * columns, (row + 1) * columns);

// Les rangs des plus grandes valeurs, la plus grande d'abord.
export function greatest(values, count) {
  return Array.from(values.keys()).sort((a, b) => values[b] - values[a]).slice(0, count);
}
