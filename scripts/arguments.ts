/** What was typed after a script's name. A word that is misread would play nothing, or something else, and end well. */

/** A whole number from 1; anything else ends the script. */
export function positive(option: string, text: string): number {
  const number = Number(text)
  if (!/^\d+$/.test(text) || number < 1 || !Number.isSafeInteger(number))
    refuse(`--${option} must be a whole number from 1; it is ${JSON.stringify(text)}`)
  return number
}

/** One of the names of a table; anything else ends the script. */
export function named<T>(option: string, table: Readonly<Record<string, T>>, text: string): T {
  const found = new Map(Object.entries(table)).get(text)
  return found ?? refuse(`--${option} must be one of ${Object.keys(table).join(', ')}; it is ${JSON.stringify(text)}`)
}

function refuse(sentence: string): never {
  console.error(sentence)
  process.exit(2)
}
