// Le hasard de decoding/uniforms.py : le même générateur, semé de même, et le même jeton tiré d'un même nombre.
// Source : Matsumoto et Nishimura, « Mersenne Twister », 1998 ; torch en garde 24 bits par nombre.

const [SIZE, MIDDLE] = [624, 397];

// Une fonction qui donne les nombres de [0, 1) d'une ligne, un par pas.
export function uniforms(seed, row = 0) {
  const sown = Number((BigInt(seed) * 1_000_003n + BigInt(row)) & 0xffffffffn);
  const state = new Uint32Array(SIZE);
  state[0] = sown;
  for (let i = 1; i < SIZE; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let place = SIZE;
  return () => {
    if (place === SIZE) {
      turn(state);
      place = 0;
    }
    let one = state[place++];
    one ^= one >>> 11;
    one ^= (one << 7) & 0x9d2c5680;
    one ^= (one << 15) & 0xefc60000;
    one ^= one >>> 18;
    return (one & 0xffffff) / 2 ** 24;
  };
}

function turn(state) {
  for (let i = 0; i < SIZE; i++) {
    const both = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
    state[i] = state[(i + MIDDLE) % SIZE] ^ (both >>> 1) ^ (both & 1 ? 0x9908b0df : 0);
  }
}

// Le rang tiré par l'inverse de la répartition : le premier dont la somme des probabilités dépasse `uniform`.
export function draw(probabilities, uniform) {
  let total = 0;
  for (const one of probabilities) total += one;
  let [sum, last] = [0, 0];
  for (let i = 0; i < probabilities.length; i++) {
    if (probabilities[i] === 0) continue;
    sum += probabilities[i];
    last = i;
    if (sum > uniform * total) return i;
  }
  return last;
}
