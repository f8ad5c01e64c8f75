// Les tokenizers de gpt_lightning/tokenizers, en JavaScript : d'un texte à des identifiants, et retour.
// Chacun a `encode(texte)`, `bytes(identifiant)`, `decode(identifiants)` et `end`, la fin de texte, ou null.

const UTF8 = new TextEncoder();
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });
const END = "<|endoftext|>";
const BLANK = "\\p{White_Space}"; // celui de Rust ; le \s de JavaScript en diffère
const PIECE = new RegExp(`'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^${BLANK}\\p{L}\\p{N}]+|${BLANK}+(?!\\P{White_Space})|${BLANK}+`, "gu");
const SPACE = "[\\p{White_Space}\\x1c-\\x1f]"; // celui de Python
const WORD = new RegExp(`([,.:;?_!"()'\\-]|--|${SPACE})`, "u");
const GLUED = new RegExp(`${SPACE}+([,.:;?!()'])`, "gu");

const binary = (bytes) => Array.from(bytes, (one) => String.fromCharCode(one)).join(""); // la clé d'une table
const textOf = (pieces) => lenient.decode(Uint8Array.from(pieces.flat()));

// Un tokenizer dont chaque jeton a des octets, que l'on met bout à bout.
function spelled(table, encode, end) {
  const bytes = (id) => table[id] ?? [];
  return { encode, bytes, decode: (ids) => textOf(ids.map(bytes)), end };
}

// BPE d'octets : le texte en morceaux, puis dans chacun la paire voisine de plus petit rang, jusqu'à ce qu'il n'y en ait plus.
function bytePairs(merges) {
  const visible = (one) => (one > 32 && one < 127) || (one > 160 && one < 256 && one !== 173);
  const all = [...Array(256).keys()];
  const order = [...all.filter(visible), ...all.filter((one) => !visible(one))];
  const byteOf = new Map(order.map((one, rank) => [visible(one) ? String.fromCharCode(one) : String.fromCharCode(256 + rank - all.filter(visible).length), one]));
  const ranks = new Map(order.map((one, rank) => [String.fromCharCode(one), rank]));
  for (const line of merges.split("\n")) {
    if (!line || line.startsWith("#version")) continue;
    const joined = binary([...line.replace(" ", "")].map((one) => byteOf.get(one)));
    if (!ranks.has(joined)) ranks.set(joined, ranks.size);
  }
  const table = [...ranks.keys()].map((one) => [...one].map((byte) => byte.charCodeAt(0)));
  table.push([...UTF8.encode(END)]);
  const encode = (text) => (text.match(PIECE) ?? []).flatMap((piece) => merged(binary(UTF8.encode(piece)), ranks));
  return spelled(table, encode, table.length - 1);
}

function merged(piece, ranks) {
  if (ranks.has(piece)) return [ranks.get(piece)];
  const parts = [...piece];
  const rankAt = (i) => (i + 1 < parts.length ? ranks.get(parts[i] + parts[i + 1]) ?? Infinity : Infinity); // la dernière n'a pas de suivante
  const pairs = parts.map((_, i) => rankAt(i)); // le rang de chaque part avec la suivante
  for (;;) {
    let best = 0;
    for (let i = 1; i < pairs.length; i++) if (pairs[i] < pairs[best]) best = i;
    if (!(pairs[best] < Infinity)) return parts.map((one) => ranks.get(one));
    parts[best] += parts[best + 1];
    parts.splice(best + 1, 1);
    pairs.splice(best + 1, 1);
    pairs[best] = rankAt(best);
    if (best) pairs[best - 1] = rankAt(best - 1);
  }
}

function characters(known) {
  const all = [...known];
  const ids = new Map(all.map((one, id) => [one, id]));
  const encode = (text) => [...text].map((one) => ids.get(one) ?? unknown("unknown_character", one));
  return spelled([...all, END].map((one) => [...UTF8.encode(one)]), encode, all.length);
}

function octets() {
  const table = [...Array(256).keys()].map((one) => [one]);
  return spelled([...table, [...UTF8.encode(END)]], (text) => [...UTF8.encode(text)], 256);
}

// Des mots, qu'une espace sépare. La première sorte refuse un mot inconnu, la seconde a un jeton pour lui.
function words(known, special) {
  const ids = new Map(known.map((one, id) => [one, id]));
  const other = special ? ids.get("<|unk|>") : undefined;
  const reserved = new Set(special ? [END, "<|unk|>"] : []);
  const idOf = (one) => (reserved.has(one) ? other : ids.get(one) ?? other ?? unknown("unknown_word", one.slice(0, 40)));
  const blank = new RegExp(`^${SPACE}*$`, "u");
  return {
    encode: (text) => text.split(WORD).filter((one) => one && !blank.test(one)).map(idOf),
    bytes: (id) => [...UTF8.encode(known[id])],
    decode: (taken) => taken.map((id) => known[id]).join(" ").replace(GLUED, "$1"),
    end: special ? ids.get(END) ?? null : null,
  };
}

// Ce que ce tokenizer ne sait pas lire : `key` est la phrase à dire.
export class Unreadable extends Error {
  constructor(key, what) {
    super(key);
    this.key = key;
    this.what = what;
  }
}

function unknown(key, what) {
  throw new Unreadable(key, what);
}

const KINDS = {
  trained: ({ merges }) => bytePairs(merges),
  gpt2: ({ merges }) => bytePairs(merges),
  characters: ({ characters: known }) => characters(known),
  bytes: octets,
  words_v1: ({ vocabulary }) => words(vocabulary, false),
  words_v2: ({ vocabulary }) => words(vocabulary, true),
};

// Le tokenizer d'un état ; une moitié de caractère écrite seule y est U+FFFD, comme ailleurs.
export function tokenizerOf(state) {
  const made = KINDS[state.kind](state);
  return { ...made, encode: (text) => made.encode(text.replace(/[\ud800-\udfff]/gu, "\ufffd")) };
}
