// Les étapes du calcul d'un texte : pour chacune, un nombre, une vignette, un dessin, sa formule et sa ligne de code.
// `seen` est la réponse d'api/inside, ses tableaux déjà lus ; `acts` ce que l'on peut y changer. Rien ici ne demande rien.

import { floats } from "./api.js";
import { make, tokenText } from "./dom.js";
import { greatest, heat, line, meters, pointed, strip } from "./drawing.js";
import { number, percent, say } from "./words.js";

const MODEL = "gpt_lightning/model/gpt.py";
const FORMULAS = "gpt_lightning/model/reference.py";
const WITHIN = "gpt_lightning/model/inside.py";

// La réponse d'api/inside, prête à dessiner.
export function decode(found) {
  const read = (all) => Object.fromEntries(Object.entries(all).map(([name, one]) => [name, one === null ? null : floats(one)]));
  const { embedding, stream, neurons, lens } = found;
  const seen = {
    ...found, added: floats(found.added), attention: read(found.attention),
    embedding: { ...embedding, ...read({ token: embedding.token, position: embedding.position }) },
    stream: { ...stream, ...read({ lengths: stream.lengths, vectors: stream.vectors }) },
    neurons: { ...neurons, values: floats(neurons.values) },
    lens: lens && { ...lens, probabilities: floats(lens.probabilities), names: new Map(lens.names.map((one) => [one.id, one])) },
  };
  return { ...seen, centred: centred(seen) };
}

export const named = (one) => say("quoted", { token: tokenText(one, true) });
export const here = (seen) => seen.tokens[seen.position];
export const row = (seen, all) => line(all, seen.length, seen.position);
const short = (value) => number(value, 2);
const shorts = (tokens) => tokens.map((one) => tokenText(one, true)).join(" ");
export const best = (values) => greatest(values, 1)[0];

// La part de chaque jeton dans ce que la tête rapporte : son poids fois la longueur de sa valeur.
export function brought(seen) {
  return row(seen, seen.attention.weights).map((weight, to) => weight * seen.attention.values[to]);
}

// La réponse d'une couche à la position regardée : [jeton, probabilité].
export function early(seen, layer) {
  const { lens, position } = seen;
  const place = position - lens.first;
  return [lens.names.get(lens.ids[layer][place][0]), lens.probabilities[(layer * lens.columns + place) * lens.top]];
}

// La première couche à partir de laquelle la lentille ne change plus d'avis.
export function settled(seen) {
  const last = early(seen, seen.layers)[0].id;
  let layer = seen.layers;
  while (layer > 0 && early(seen, layer - 1)[0].id === last) layer--;
  return layer;
}

function map(seen, values, options, text, shades = values) {
  const said = make("p", { className: "hint" }, say("map_hint"));
  const canvas = heat(shades, seen.length, seen.length, options);
  pointed(canvas, (from, to) => {
    said.textContent = say("pair", { from: named(seen.tokens[from]), to: named(seen.tokens[to]), n: text(values[from * seen.length + to]) });
  });
  return [canvas, said];
}

const future = (from, to) => to > from;

function looked(seen, values, text, count = 8) {
  return meters(greatest(values, Math.min(count, seen.position + 1)).map((to) => [tokenText(seen.tokens[to], true), values[to], text(values[to])]));
}

function long(bars) {
  bars.classList.add("long");
  return bars;
}

// Ce qui sépare chaque produit de la moyenne de ceux que sa ligne voit : le softmax n'en lit pas davantage.
function centred({ attention, length }) {
  const shades = Float32Array.from(attention.scores);
  for (let from = 0; from < length; from++) {
    const scores = line(shades, length, from);
    const mean = scores.subarray(0, from + 1).reduce((sum, one) => sum + one, 0) / (from + 1);
    scores.forEach((one, to) => (scores[to] = one - mean));
  }
  return shades;
}

function toggle(label, act) {
  return make("button", { type: "button", onclick: act }, label);
}

// Un jeton et son numéro ; un clic le cache à ceux qui le suivent.
function hiding(one, position, seen, acts) {
  const button = make("button", { type: "button", disabled: position >= seen.position, onclick: () => acts.toggle({ position }) }, make("b", {}, tokenText(one, true)), ` ${one.id}`);
  button.setAttribute("aria-pressed", String(acts.isOff({ position })));
  return button;
}

function lensTable(seen, acts) {
  const { lens } = seen;
  const head = make("tr", {}, make("th", { scope: "col" }, say("lens_row")), ...seen.tokens.slice(lens.first, lens.first + lens.columns).map((one) => make("th", { scope: "col" }, tokenText(one, true))));
  const body = lens.ids.map((cells, layer) => make("tr", {}, make("th", { scope: "row" }, layer ? String(layer) : say("start")), ...cells.map((ids, place) => {
    const share = lens.probabilities[(layer * lens.columns + place) * lens.top];
    const names = ids.map((other, rank) => `${tokenText(lens.names.get(other), true)} ${percent(lens.probabilities[(layer * lens.columns + place) * lens.top + rank])}`);
    const cell = make("td", { title: names.join(" ; ") }, tokenText(lens.names.get(ids[0]), true));
    cell.style.setProperty("--share", share);
    cell.onclick = () => acts.position(lens.first + place);
    if (lens.first + place === seen.position) cell.setAttribute("aria-current", "true");
    return cell;
  })));
  return make("div", { className: "lens", tabIndex: 0, aria: { role: "region", label: say("part_lens") } }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body.reverse())));
}

function addedChart(seen) {
  const rows = [];
  for (let layer = seen.layers - 1; layer >= 0; layer--) {
    for (const [rank, name] of [[1, "network_adds"], [0, "attention_adds"]]) {
      const value = seen.added[(layer * 2 + rank) * seen.length + seen.position];
      rows.push([`${layer + 1} · ${say(name)}`, value, short(value)]);
    }
  }
  return meters(rows);
}

// nom : [formule, fichier, ligne de code, figure(seen), vignette(seen), dessin(seen, acts), valeurs de son explication(seen)]
export const PARTS = {
  tokens: ["texte → (id₁ … id_T)", "gpt_lightning/tokenizers/base.py", "def encode(self, text: str, *, special: bool = False) -> list[int]:",
    (seen) => say("tokens_n", { n: seen.length }), () => null,
    (seen, acts) => [
      make("ol", { className: "ids" }, ...seen.tokens.map((one, position) => make("li", {}, hiding(one, position, seen, acts)))),
      make("p", { className: "hint" }, say("hide_hint", { token: named(here(seen)) })),
    ],
    (seen, model) => ({ n: number(seen.length), v: number(model.vocabulary) })],
  embedding: ["x = E[id]", MODEL, "x = self.drop_emb(self.tok_emb(ids) + self.pos_emb(positions))  # (B, T, C)",
    (seen) => say("length_of", { n: short(seen.embedding.token[seen.position]) }), (seen) => strip(line(seen.stream.vectors, seen.stream.shown, 0), say("part_embedding")),
    (seen) => [
      strip(line(seen.stream.vectors, seen.stream.shown, 0), say("part_embedding")),
      make("p", { className: "hint" }, say("first_numbers", { n: seen.stream.shown, all: seen.width, token: named(here(seen)) })),
      make("h3", {}, say("neighbours")), meters(seen.embedding.nearest.map((one) => [tokenText(one, true), Math.max(0, one.cosine), short(one.cosine)]), { most: 1 }),
    ],
    (seen) => ({ c: number(seen.width) })],
  position: ["x ← x + P[place]", MODEL, "x = self.drop_emb(self.tok_emb(ids) + self.pos_emb(positions))  # (B, T, C)",
    (seen) => (seen.embedding.position ? say("length_of", { n: short(seen.embedding.position[seen.position]) }) : "rope"), () => null,
    (seen) => (seen.embedding.position
      ? [meters(seen.tokens.slice(0, 24).map((one, rank) => [`${rank + 1} ${tokenText(one, true)}`, seen.embedding.position[rank], short(seen.embedding.position[rank])])), make("p", { className: "hint" }, say("own_numbers"))]
      : [strip(line(seen.attention.query, seen.head_width, seen.position), say("part_position")), make("p", { className: "hint" }, say("rope_numbers", { token: named(here(seen)) }))]),
    () => ({})],
  scores: ["Q Kᵀ / √D", FORMULAS, "scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)",
    (seen) => short(Math.max(...row(seen, seen.attention.scores).subarray(0, seen.position + 1))), (seen) => heat(seen.centred, seen.length, seen.length, { signed: true, label: say("part_scores") }),
    (seen) => map(seen, seen.attention.scores, { signed: true, label: say("part_scores") }, short, seen.centred),
    (seen) => ({ d: seen.head_width })],
  mask: ["t ne voit que 1 … t", FORMULAS, 'return softmax(scores.masked_fill(~mask, float("-inf")))',
    (seen) => say("sees", { n: row(seen, seen.attention.weights).filter((one) => one > 0).length }), (seen) => heat(seen.centred, seen.length, seen.length, { signed: true, hidden: future, label: say("part_mask") }),
    (seen) => map(seen, seen.attention.scores, { signed: true, hidden: (from, to) => future(from, to) || seen.attention.weights[from * seen.length + to] === 0, label: say("part_mask") }, short, seen.centred),
    (seen) => ({ token: named(here(seen)), n: row(seen, seen.attention.weights).filter((one) => one > 0).length })],
  softmax: ["aᵢ = exp(sᵢ) / Σ exp(sⱼ)", FORMULAS, "return exponentials / exponentials.sum(-1, keepdim=True)",
    (seen) => {
      const shares = row(seen, seen.attention.weights);
      return say("looks", { token: named(seen.tokens[best(shares)]), share: percent(shares[best(shares)]) });
    },
    (seen) => heat(seen.attention.weights, seen.length, seen.length, { label: say("part_softmax") }),
    (seen) => [make("div", { className: "pair" }, make("div", {}, ...map(seen, seen.attention.weights, { hidden: future, label: say("part_softmax") }, percent)), looked(seen, row(seen, seen.attention.weights), percent))],
    (seen) => ({ token: named(here(seen)) })],
  values: ["Σ aᵢ Vᵢ", FORMULAS, "return weights @ share(v, q.shape[1])",
    (seen) => say("brings", { token: named(seen.tokens[best(brought(seen))]) }), () => null,
    (seen) => [looked(seen, brought(seen), short, 10)],
    (seen) => ({ token: named(here(seen)) })],
  output: ["x ← x + [tête₁ … tête_H] W", MODEL, "return self.out_proj(context.transpose(1, 2).flatten(2))  # (B, T, C)",
    (seen) => say("adds", { n: short(seen.attention.added[seen.position]) }), () => null,
    (seen, acts) => [
      meters([...seen.attention.shares].map((value, head) => [say("head_n", { n: head + 1 }), value, short(value), head === seen.head]), { pick: acts.head }),
      toggle(say(acts.isOff({ layer: seen.layer, head: seen.head }) ? "on_head" : "off_head"), () => acts.toggle({ layer: seen.layer, head: seen.head })),
    ],
    (seen) => ({ token: named(here(seen)) })],
  neurons: ["x ← x + W₂ f(W₁ x)", MODEL, "x = x + self.drop_shortcut(self.ff(self.norm2(x)))",
    (seen) => say("neuron", { n: seen.neurons.ids[seen.position][0] }), () => null,
    (seen, acts) => [
      long(meters(seen.neurons.ids[seen.position].map((id, rank) => {
        const value = seen.neurons.values[seen.position * seen.neurons.shown + rank];
        return [make("span", {}, make("b", {}, `${id} `), say("pushes", { tokens: shorts(seen.neurons.pushes[rank].slice(0, 3)) })), value, short(value)];
      }))),
      toggle(say(acts.isOff({ layer: seen.layer }) ? "on_layer" : "off_layer"), () => acts.toggle({ layer: seen.layer })),
    ],
    (seen) => ({ token: named(here(seen)), f: number(seen.hidden) })],
  added: ["x ← x + attention(x), puis x + réseau(x)", MODEL, "x = x + self.drop_shortcut(self.att(self.norm1(x), positions, cache, mask))  # (B, T, C)",
    (seen) => say("stream_is", { n: short(seen.stream.lengths[seen.layers * seen.length + seen.position]) }), () => null,
    (seen) => [addedChart(seen)],
    (seen) => ({ token: named(here(seen)) })],
  lens: ["softmax(tête(norme(x de la couche)))", WITHIN, "rows.append(answer(model, stream).softmax(-1).topk(min(count, model.config.vocab_size)))",
    (seen) => {
      const layer = settled(seen);
      return say(layer ? "lens_since" : "lens_start", { token: named(early(seen, seen.layers)[0]), n: layer });
    },
    () => null, (seen, acts) => [lensTable(seen, acts)], () => ({})],
  answer: ["softmax(tête(norme(x)))", MODEL, "return self.out_head(self.hidden(ids, cache)[:, -1])[:, : self.config.vocab_size]",
    (seen) => `${named(seen.candidates[0])} ${percent(Math.exp(seen.candidates[0].logprob))}`, () => null,
    (seen) => [meters(seen.candidates.slice(0, 12).map((one) => [tokenText(one, true), Math.exp(one.logprob), percent(Math.exp(one.logprob))]), { most: 1 })],
    (seen, model) => ({ v: number(model.vocabulary) })],
};

// Ce qui reste de la vue d'une étape : son titre, deux phrases, son dessin, sa formule, sa ligne.
export function explained(name, seen, model, acts) {
  const [formula, file, code, , , draw, values] = PARTS[name];
  const key = name === "position" && !seen.embedding.position ? "explain_position_rope" : `explain_${name}`;
  return [
    make("h2", {}, say(`part_${name}`)), make("p", { className: "explained" }, say(key, values(seen, model))), ...draw(seen, acts),
    make("details", {}, make("summary", {}, say("formula")), make("p", { className: "raw" }, formula), make("p", { className: "hint" }, `${say("code")} : ${file}`), make("pre", { className: "raw", tabIndex: 0 }, code)),
  ];
}
