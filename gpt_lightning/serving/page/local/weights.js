// Ce que le fichier contient : un en-tête en JSON, et les poids en base64, dans des blocs qui ne s'exécutent pas.

import { Model } from "./forward.js";

const block = (id) => document.getElementById(id).textContent;

export const header = () => JSON.parse(block("held"));

function bytesOf(base64) {
  const raw = atob(base64);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

// Les façons d'écrire `count` nombres à partir de l'octet `at` : float32, float16, ou int8 et une échelle par groupe.
const READERS = {
  f32: (bytes, { at, count }) => new Float32Array(bytes.slice(at, at + 4 * count).buffer),
  f16: (bytes, { at, count }) => Float32Array.from(new Uint16Array(bytes.slice(at, at + 2 * count).buffer), half),
  int8(bytes, { at, count, group }) {
    const groups = count / group;
    const scales = new Float32Array(bytes.slice(at, at + 4 * groups).buffer);
    const steps = new Int8Array(bytes.buffer, at + 4 * groups, count);
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = steps[i] * scales[Math.floor(i / group)];
    return out;
  },
};

// Un float16 : un signe, cinq bits d'exposant, dix de mantisse.
function half(raw) {
  const [exponent, fraction] = [(raw >> 10) & 31, raw & 1023];
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return raw & 0x8000 ? -size : size;
}

// Le modèle dont les poids sont dans le bloc `id`.
export function modelOf({ config, tensors }, id) {
  const bytes = bytesOf(block(id));
  const weights = Object.fromEntries(tensors.map((one) => [one.name, READERS[one.kind](bytes, one)]));
  return new Model(config, weights);
}
