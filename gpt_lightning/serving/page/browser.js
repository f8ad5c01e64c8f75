// Ce que le navigateur peut refuser : retenir, copier, changer l'adresse, dire s'il est sombre. La page marche sans.

// l'adresse du serveur, préfixe d'un proxy compris ; un fichier seul peut n'en avoir aucune
export const ROOT = allowed(() => new URL("..", import.meta.url), new URL("about:blank"));

// Ce que donne `work`, ou `otherwise` si le navigateur le refuse.
export function allowed(work, otherwise = null) {
  try {
    return work() ?? otherwise;
  } catch {
    return otherwise;
  }
}

// Ce que la page retient : dans le navigateur s'il le permet, sinon le temps de la page. Un même site peut porter
// d'autres pages, d'où le nom.
function shelf(storage) {
  const here = new Map();
  const named = (name) => `gpt_lightning${ROOT.pathname}${name}`;
  return {
    get: (name) => here.get(name) ?? allowed(() => storage().getItem(named(name))),
    set(name, value) {
      here.set(name, value);
      allowed(() => storage().setItem(named(name), value));
    },
  };
}

export const lasting = shelf(() => localStorage);
export const passing = shelf(() => sessionStorage); // le temps de l'onglet

export async function copies(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
