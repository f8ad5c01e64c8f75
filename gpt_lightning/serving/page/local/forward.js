// La passe avant, en JavaScript simple : la page de model/gpt.py, avec des tableaux typés et un cache.
// Légende des formes : T jetons lus, S jetons vus, ceux du cache compris, C largeur du flux, H têtes, K têtes de K et V,
// D largeur d'une tête, V vocabulaire. Un tableau (T, C) est à plat, ligne après ligne ; les sommes sont en double.

const SLICE = 8; // millisecondes de calcul entre deux images de la page
const WORK = 500_000; // multiplications entre deux regards à l'horloge
let since = 0;
const { port1, port2 } = new MessageChannel(); // setTimeout attendrait 4 ms de trop
const sleeping = [];
port1.onmessage = () => sleeping.shift()();

// Laisse la page se dessiner, si le calcul dure ; un arrêt demandé l'interrompt là.
export async function breathe(signal) {
  if (performance.now() - since > SLICE) {
    await new Promise((wake) => {
      sleeping.push(wake);
      port2.postMessage(null);
    });
    since = performance.now();
  }
  signal?.throwIfAborted();
}

// Le modèle : sa forme, et ses poids sous leurs noms dans un checkpoint.
export class Model {
  constructor(config, weights) {
    this.config = config;
    this.weights = weights;
    this.head = weights["out_head.weight"] ?? weights["tok_emb.weight"];
  }

  // Les clés et les valeurs des jetons lus, (S, K D) par couche.
  newCache() {
    const { n_layers, context_length, kv_heads, head_width } = this.config;
    const room = () => Array.from({ length: n_layers }, () => new Float32Array(context_length * kv_heads * head_width));
    return { keys: room(), values: room(), length: 0 };
  }

  // Lit des jetons à la suite du cache : le flux résiduel après la dernière couche, (T, C).
  // `pass` est ce que l'on veut de plus : `signal` l'arrête, `told` en voit chaque étape, `off` en éteint des parts.
  async read(ids, cache = this.newCache(), pass = {}) {
    const x = this.embed(ids, cache.length, pass);
    for (let layer = 0; layer < this.config.n_layers; layer++) {
      if (!pass.off?.layers.has(layer)) await this.block(layer, x, ids.length, cache, pass);
      pass.told?.("stream", layer, x);
      await breathe(pass.signal);
    }
    cache.length += ids.length;
    return x;
  }

  // Chaque jeton a son vecteur ; chaque position le sien, si elles sont apprises.
  embed(ids, start, { told }) {
    const { emb_dim: C } = this.config;
    const x = new Float32Array(ids.length * C);
    ids.forEach((id, t) => x.set(this.weights["tok_emb.weight"].subarray(id * C, (id + 1) * C), t * C));
    told?.("tokens", -1, x);
    const learned = this.weights["pos_emb.weight"];
    if (learned) add(x, learned.subarray(start * C, (start + ids.length) * C));
    told?.("embedding", -1, x);
    return x;
  }

  // Attention puis réseau, chacun normalisé avant et ajouté au flux.
  async block(layer, x, rows, cache, pass) {
    const part = (name) => this.weights[`trf_blocks.${layer}.${name}`];
    const first = this.norm(x, part("norm1.scale"), part("norm1.shift"));
    pass.told?.("normed", layer, first);
    const seen = await this.attention(layer, part, first, rows, cache, pass);
    pass.told?.("attention", layer, seen);
    add(x, seen);
    pass.told?.("middle", layer, x);
    const thought = await this.network(layer, part, this.norm(x, part("norm2.scale"), part("norm2.shift")), rows, pass);
    pass.told?.("network", layer, thought);
    add(x, thought);
  }

  // softmax(Q Kᵀ / √D) V, où un jeton ne voit que lui-même et ceux d'avant.
  async attention(layer, part, x, rows, cache, pass) {
    const { n_heads, kv_heads, head_width: D } = this.config;
    const start = cache.length;
    const project = (name) => linear(x, rows, part(`att.${name}.weight`), part(`att.${name}.bias`), pass);
    const [q, k, v] = [await project("W_query"), await project("W_key"), await project("W_value")];
    this.place(q, part("att.q_norm.scale"), rows, start);
    this.place(k, part("att.k_norm.scale"), rows, start);
    pass.told?.("qkv", layer, { q, k, v });
    const [keys, values] = [cache.keys[layer], cache.values[layer]];
    keys.set(k, start * kv_heads * D);
    values.set(v, start * kv_heads * D);
    const context = new Float32Array(rows * n_heads * D); // (T, H D)
    const length = start + rows;
    const weights = pass.told ? new Float32Array(n_heads * rows * length) : null; // (H, T, S)
    const row = new Float64Array(length);
    for (let head = 0; head < n_heads; head++) {
      const silent = pass.off?.heads.has(`${layer}:${head}`); // elle regarde, et ne rapporte rien
      const shared = Math.floor((head * kv_heads) / n_heads) * D; // un groupe de têtes a les mêmes clés
      for (let t = 0; t < rows; t++) {
        this.regard(q, (t * n_heads + head) * D, keys, shared, row, start + t, pass.off?.positions);
        for (let s = 0; s <= start + t && !silent; s++) {
          const from = s * kv_heads * D + shared;
          for (let d = 0; d < D; d++) context[(t * n_heads + head) * D + d] += row[s] * values[from + d];
        }
        weights?.set(row.subarray(0, start + t + 1), (head * rows + t) * length);
      }
      await breathe(pass.signal);
    }
    pass.told?.("weights", layer, weights);
    pass.told?.("context", layer, context);
    return linear(context, rows, part("att.out_proj.weight"), part("att.out_proj.bias"), pass);
  }

  // Les poids d'une requête sur les jetons 0 à `last`, dans `row` ; `hidden` : ceux que personne d'autre ne voit.
  regard(q, at, keys, shared, row, last, hidden) {
    const { kv_heads, head_width: D } = this.config;
    let [top, total] = [-Infinity, 0];
    for (let s = 0; s <= last; s++) {
      const masked = s !== last && hidden?.has(s);
      row[s] = masked ? -Infinity : dot(q, at, keys, s * kv_heads * D + shared, D) / Math.sqrt(D);
      if (row[s] > top) top = row[s];
    }
    for (let s = 0; s <= last; s++) total += row[s] = Math.exp(row[s] - top);
    for (let s = 0; s <= last; s++) row[s] /= total;
  }

  // Q ou K, tête par tête : normalisées si la forme le veut, puis tournées selon leur position (rope).
  place(x, scale, rows, start) {
    const { head_width: D, norm_eps, positions, rope_base } = this.config;
    if (scale) rmsNorm(x, x, scale, norm_eps);
    if (positions !== "rope") return;
    const [half, heads] = [D / 2, x.length / rows / D];
    for (let i = 0; i < half; i++) {
      const step = Math.fround(rope_base ** -Math.fround(i / half)); // torch compte ces angles en float32
      for (let t = 0; t < rows; t++) {
        const angle = Math.fround((start + t) * step);
        const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
        for (let at = t * heads * D + i; at < (t + 1) * heads * D; at += D) {
          const [first, second] = [x[at], x[at + half]];
          x[at] = first * cos - second * sin;
          x[at + half] = first * sin + second * cos;
        }
      }
    }
  }

  // C -> milieu -> C : une activation entre deux produits, ou la porte de SwiGLU.
  async network(layer, part, x, rows, pass) {
    const hidden = await linear(x, rows, part("ff.layers.0.weight"), part("ff.layers.0.bias"), pass);
    if (this.config.activation === "swiglu") {
      const gate = await linear(x, rows, part("ff.gate.weight"), part("ff.gate.bias"), pass);
      for (let i = 0; i < hidden.length; i++) hidden[i] *= gate[i] / (1 + Math.exp(-gate[i]));
    } else {
      const gelu = GELU[this.config.activation];
      for (let i = 0; i < hidden.length; i++) hidden[i] = gelu(hidden[i]);
    }
    pass.told?.("neurons", layer, hidden);
    return linear(hidden, rows, part("ff.layers.2.weight"), part("ff.layers.2.bias"), pass);
  }

  norm(x, scale, shift) {
    const out = new Float32Array(x.length);
    const { norm, norm_eps } = this.config;
    if (norm === "rmsnorm") rmsNorm(x, out, scale, norm_eps);
    else layerNorm(x, out, scale, shift, norm_eps);
    return out;
  }

  // Les logits de chaque ligne d'un flux, (T, C) -> (T, V) : la norme finale, puis la tête.
  async logits(x, signal) {
    const { emb_dim: C, vocab_size } = this.config;
    const last = this.norm(x, this.weights["final_norm.scale"], this.weights["final_norm.shift"]);
    return linear(last, x.length / C, this.head.subarray(0, vocab_size * C), undefined, { signal });
  }
}

function add(x, more) {
  for (let i = 0; i < x.length; i++) x[i] += more[i];
}

function dot(a, i, b, j, length) {
  let [s0, s1, s2, s3] = [0, 0, 0, 0]; // quatre sommes à la fois : le processeur n'attend pas la précédente
  let d = 0;
  for (; d + 3 < length; d += 4) {
    s0 += a[i + d] * b[j + d];
    s1 += a[i + d + 1] * b[j + d + 1];
    s2 += a[i + d + 2] * b[j + d + 2];
    s3 += a[i + d + 3] * b[j + d + 3];
  }
  for (; d < length; d++) s0 += a[i + d] * b[j + d];
  return s0 + s1 + s2 + s3;
}

// x Wᵀ + b : (T, C) -> (T, lignes de W).
async function linear(x, rows, weight, bias, { signal }) {
  const inner = x.length / rows;
  const outer = weight.length / inner;
  const out = new Float32Array(rows * outer);
  const some = Math.max(1, Math.floor(WORK / x.length)); // lignes de W d'une seule traite
  for (let first = 0; first < outer; first += some) {
    multiply(x, rows, weight, bias, out, first, Math.min(outer, first + some));
    await breathe(signal);
  }
  return out;
}

function multiply(x, rows, weight, bias, out, first, last) {
  const [inner, outer] = [x.length / rows, out.length / rows];
  for (let o = first; o < last; o++) {
    const shift = bias ? bias[o] : 0;
    for (let t = 0; t < rows; t++) out[t * outer + o] = dot(x, t * inner, weight, o * inner, inner) + shift;
  }
}

// x / √(moyenne(x²) + eps) * scale, ligne par ligne.
function rmsNorm(x, out, scale, eps) {
  const width = scale.length;
  for (let from = 0; from < x.length; from += width) {
    const size = Math.sqrt(dot(x, from, x, from, width) / width + eps);
    for (let i = 0; i < width; i++) out[from + i] = (x[from + i] / size) * scale[i];
  }
}

// (x - moyenne) / √(variance + eps) * scale + shift, ligne par ligne.
function layerNorm(x, out, scale, shift, eps) {
  const width = scale.length;
  for (let from = 0; from < x.length; from += width) {
    let [mean, variance] = [0, 0];
    for (let i = 0; i < width; i++) mean += x[from + i] / width;
    for (let i = 0; i < width; i++) variance += (x[from + i] - mean) ** 2 / width;
    const size = Math.sqrt(variance + eps);
    for (let i = 0; i < width; i++) out[from + i] = ((x[from + i] - mean) / size) * scale[i] + (shift ? shift[i] : 0);
  }
}

const GELU = {
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

// La fonction d'erreur : sa série, dont les termes s'éteignent ; au-delà de 4, elle vaut 1 à 2e-8 près.
function erf(x) {
  if (Math.abs(x) > 4) return Math.sign(x);
  let [term, total] = [x, x];
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(total); n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}
