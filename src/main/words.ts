/** What a command says of an error that ended it. */

/** An error of a class of ours has a sentence for a message; such a class names itself. Any other is a bug, and has a stack. */
export function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return Object.hasOwn(error, 'name') ? error.message : (error.stack ?? error.message)
}
