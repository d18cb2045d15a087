// What a visitor is told of a file that cannot be read right.

export const ELSEWHERE = "open it on the demo page (ct-xception demo), which reads more kinds of files";

/** A file that cannot be read right; its message is one sentence for the visitor. */
export class Refusal extends Error {
  constructor(name, found, remedy) {
    super(`${name}: ${found}; ${remedy}.`);
  }
}
