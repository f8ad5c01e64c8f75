// Ce que dit le fichier, et que la page ne dit pas.

import { INSIDE } from "../words_inside.js";

Object.assign(INSIDE.fr, {
  unknown_character: "Le caractère « {n} » n'est pas dans le vocabulaire de ce modèle : retirez-le.",
  unknown_word: "Le mot « {n} » n'est pas dans le vocabulaire de ce modèle : changez-le.",
  too_long: "{n} jetons, et ce modèle en lit {most}, complétion comprise : raccourcissez le texte.",
  too_much: "Ce texte est trop long pour cette page : {most} jetons au plus.",
  no_position: "position={n}, mais il y en a {most}, comptées depuis 0.",
  learned_from: "Ce modèle a été entraîné sur :", unknown_corpus: "un corpus que ce fichier ne nomme pas",
  made_by: "Fait par gpt_lightning, sous licence MIT. Rien de ce que l'on écrit ici ne quitte cette page.",
});
Object.assign(INSIDE.en, {
  unknown_character: "The character “{n}” is not in this model's vocabulary: remove it.",
  unknown_word: "The word “{n}” is not in this model's vocabulary: change it.",
  too_long: "{n} tokens, and this model reads {most}, completion included: shorten the text.",
  too_much: "This text is too long for this page: {most} tokens at most.",
  no_position: "position={n}, but there are {most}, counted from 0.",
  learned_from: "This model was trained on:", unknown_corpus: "a corpus that this file does not name",
  made_by: "Made by gpt_lightning, under the MIT licence. Nothing that is typed here leaves this page.",
});
