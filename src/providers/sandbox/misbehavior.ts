/**
 * How the sandbox misbehaves when the prompt asks it to, so that every failure of a real provider can be seen for free.
 *
 * 1. A word counts wherever it stands in the prompt; the other words are painted, it is not.
 * 2. `=N` means the first N times in a step, over all of its attempts; then all is well. Without it the table says how often.
 * 3. Words that are not in the table are part of the prompt: `#sunset` is a sunset.
 */

export type Word = (typeof MISBEHAVIOR)[number]['word']

export interface Misbehavior {
  word: string
  /** As it is written in a prompt. */
  example: string
  /** How often it happens in a step when no number is given. */
  times: 'always' | 'once'
  /** What then happens, in a sentence. */
  effect: string
}

/** All of it, as the documentation shows it. */
export const MISBEHAVIOR = [
  { word: '#fail', example: '#fail=2', times: 'always', effect: 'The job ends in provider_error when its time is up.' },
  { word: '#moderate', example: '#moderate', times: 'always', effect: 'The submit is refused with content_rejected.' },
  {
    word: '#moderate-output',
    example: '#moderate-output',
    times: 'always',
    effect: 'The job ends in content_rejected.',
  },
  {
    word: '#slow',
    example: '#slow=20s',
    times: 'always',
    effect: 'The job takes that long (ms, s or m; at most 12 h; a minute without a number).',
  },
  {
    word: '#429',
    example: '#429=2',
    times: 'once',
    effect: 'The submit is refused with provider_rate_limited, to be tried again after one second.',
  },
  { word: '#503', example: '#503=2', times: 'once', effect: 'The submit is refused with provider_overloaded.' },
  {
    word: '#unknown',
    example: '#unknown',
    times: 'always',
    effect: 'The answer to the submit is lost although the job runs; a look-up finds it.',
  },
  {
    word: '#lost',
    example: '#lost=1',
    times: 'always',
    effect: 'The job vanishes half way and ends in provider_lost.',
  },
  {
    word: '#expire',
    example: '#expire',
    times: 'once',
    effect: 'The link to the output is dead when it is opened; asking for the job again gives a new one.',
  },
  { word: '#garbage', example: '#garbage', times: 'always', effect: 'The output is an HTML page.' },
  { word: '#truncate', example: '#truncate=2', times: 'always', effect: 'The output breaks off half way.' },
  { word: '#empty', example: '#empty=1', times: 'always', effect: 'The output has no bytes.' },
] as const satisfies readonly Misbehavior[]

/** JSON knows no Infinity. */
export const ALWAYS = -1

/** Words found in a prompt, and the prompt without them. */
export interface Wishes {
  prompt: string
  /** How often each word has its way in the step; `ALWAYS` without end. */
  times: Readonly<Partial<Record<Word, number>>>
  /** What `#slow` asks for (ms), or null. */
  slowMs: number | null
}

export function wishesIn(prompt: string): Wishes {
  const times: Partial<Record<Word, number>> = {}
  let slowMs: number | null = null
  const rest = prompt.replaceAll(
    /(?<![\w#])(#[a-z\d]+(?:-[a-z]+)*)(?:=(\d{1,9})(ms|s|m)?)?(?![\w=-])/gi,
    (all, found: string, number: string | undefined, unit = 's') => {
      const entry = MISBEHAVIOR.find(each => each.word === found.toLowerCase())
      if (!entry) return all
      if (entry.word === '#slow')
        slowMs = Math.min(LONGEST_MS, number === undefined ? 60_000 : Number(number) * (UNIT_MS[unit] ?? 1_000))
      const usual = entry.times === 'always' ? ALWAYS : 1
      times[entry.word] = number === undefined || entry.word === '#slow' ? usual : Number(number)
      return ''
    },
  )
  return { prompt: Object.keys(times).length === 0 ? prompt : rest.replaceAll(/ {2,}/g, ' ').trim(), times, slowMs }
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000 }

/** Less than a job's record is kept. */
const LONGEST_MS = 12 * 3_600_000
