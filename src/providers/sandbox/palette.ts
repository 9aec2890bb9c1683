/**
 * Reads a prompt as a painter would: which colors, what mood, which words; and the chance that makes every seed its own picture.
 *
 * 1. Everything here is a pure function of the prompt and the seed.
 * 2. Colors are linear light, as on the canvas. They are mixed in OKLCH, where equal numbers look equally bright and strong.
 */

export type Rgb = readonly [red: number, green: number, blue: number]

/** The colors of one picture. `key` and `rim` are the two lights, `accent` is small and strong, `base` is the room. */
export type Palette = {
  readonly mood: 'dark' | 'light'
  readonly key: Rgb
  readonly rim: Rgb
  readonly accent: Rgb
  readonly base: Rgb
  readonly hues: { readonly key: Tint; readonly rim: Tint }
}

/** A hue in degrees and how strong it is, 0 to about 0.2. */
export type Tint = { readonly hue: number; readonly chroma: number }

/** Numbers from 0 to 1 that look random and always come in the same order. */
export type Chance = () => number

/** The words of a prompt in lower case, without accents and punctuation. */
export function wordsOf(prompt: string): ReadonlySet<string> {
  const plain = prompt.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase()
  return new Set(plain.match(/[\p{L}\p{N}]+/gu) ?? [])
}

export function hasAny(words: ReadonlySet<string>, list: string): boolean {
  return list.split(/\s+/).some(word => words.has(word) || words.has(`${word}s`))
}

/** A chance that depends on the prompt, the seed and what it is used for, so that one use does not disturb another. */
export function chanceOf(prompt: string, seed: number, use: string): Chance {
  let state = hash(`${use}\n${seed}\n${prompt}`)
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** The palette that the prompt names (`teal and violet light`), or else a pair of colors that go well together. */
export function paletteOf(prompt: string, seed: number): Palette {
  const words = wordsOf(prompt)
  const chance = chanceOf(prompt, seed, 'palette')
  const named = [...words].flatMap(word => TINTS[word] ?? [])
  const pair = PAIRS[Math.floor(chance() * PAIRS.length)] ?? PAIRS[0]
  const key = named[0] ?? tint(pair[0])
  const rim = named[1] ?? (named[0] ? companion(named[0], chance) : tint(pair[1]))
  const mood = hasAny(words, LIGHT_WORDS) && !hasAny(words, DARK_WORDS) ? 'light' : 'dark'
  const drift = (chance() - 0.5) * 8
  const [k, r] = [turn(key, drift), turn(rim, -drift)]
  return {
    mood,
    key: oklch(0.71 + purity(k.hue), k),
    rim: oklch(0.64 + purity(r.hue), r),
    accent: oklch(0.8, { hue: k.hue + 180 * (named.length > 2 ? 0 : 0.06), chroma: k.chroma * 1.05 }),
    base:
      mood === 'light'
        ? oklch(0.93, { hue: k.hue, chroma: 0.012 })
        : oklch(0.2, { hue: mix(r.hue, k.hue, 0.25), chroma: 0.045 }),
    hues: { key: k, rim: r },
  }
}

/** How much lighter than others a hue is where it is strongest: yellow most, violet least. */
function purity(hue: number): number {
  return 0.09 * Math.cos(((hue - 120) * Math.PI) / 180)
}

/** Linear light of an OKLCH color; `lightness` is 0 to 1. Colors beyond the screen lose chroma until they fit. */
export function oklch(lightness: number, { hue, chroma }: Tint): Rgb {
  for (let c = chroma; c > 0.001; c *= 0.94) {
    const rgb = oklab(lightness, c * Math.cos((hue * Math.PI) / 180), c * Math.sin((hue * Math.PI) / 180))
    if (Math.min(...rgb) >= 0 && Math.max(...rgb) <= 1) return rgb
  }
  const grey = lightness ** 3
  return [grey, grey, grey]
}

export function blend(a: Rgb, b: Rgb, t: number): Rgb {
  return [mix(a[0], b[0], t), mix(a[1], b[1], t), mix(a[2], b[2], t)]
}

export function mix(a: number, b: number, t: number): number {
  return a + (b - a) * t
}

/** 0 below `from`, 1 above `to`, an S curve between. */
export function smooth(from: number, to: number, x: number): number {
  const t = Math.min(Math.max((x - from) / (to - from), 0), 1)
  return t * t * (3 - 2 * t)
}

const LIGHT_WORDS =
  'white bright pastel minimal minimalist airy snow snowy daylight sunny ivory cream porcelain spring paper pale'
const DARK_WORDS = 'dark night moody black neon midnight noir shadowy cosmic space galaxy'

/** FNV-1a over UTF-16 units, then stirred. */
function hash(text: string): number {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  return Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
}

const tint = ([hue, chroma]: readonly [number, number]): Tint => ({ hue, chroma })
const turn = ({ hue, chroma }: Tint, degrees: number): Tint => ({ hue: hue + degrees, chroma })

/** A second light for a single named color: near it, or across from it. */
function companion({ hue, chroma }: Tint, chance: Chance): Tint {
  const way = chance() < 0.5 ? -1 : 1
  return {
    hue: hue + way * (chance() < 0.6 ? 55 + chance() * 30 : 150 + chance() * 30),
    chroma: Math.max(chroma * 0.9, 0.07),
  }
}

/** Conversion by Björn Ottosson, https://bottosson.github.io/posts/oklab/ */
function oklab(lightness: number, a: number, b: number): Rgb {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ]
}

/** Hue and chroma of pairs that go well together: key light, rim light. */
const PAIRS: readonly [Pair, ...Pair[]] = [
  [
    [195, 0.13],
    [300, 0.17],
  ],
  [
    [75, 0.15],
    [275, 0.17],
  ],
  [
    [40, 0.17],
    [200, 0.12],
  ],
  [
    [10, 0.17],
    [260, 0.16],
  ],
  [
    [85, 0.15],
    [330, 0.16],
  ],
  [
    [165, 0.14],
    [320, 0.18],
  ],
  [
    [55, 0.17],
    [250, 0.15],
  ],
  [
    [350, 0.15],
    [290, 0.17],
  ],
  [
    [215, 0.14],
    [345, 0.18],
  ],
  [
    [65, 0.13],
    [15, 0.16],
  ],
  [
    [145, 0.14],
    [225, 0.14],
  ],
  [
    [30, 0.17],
    [310, 0.16],
  ],
]

type Pair = readonly [key: readonly [number, number], rim: readonly [number, number]]

const TINTS: Readonly<Record<string, Tint>> = Object.fromEntries(
  `red 27 .2, crimson 20 .2, scarlet 30 .21, ruby 15 .2, rose 5 .16, pink 355 .17, magenta 330 .22, fuchsia 335 .22, violet 300 .2, purple 307 .2,
   lavender 300 .1, lilac 310 .11, plum 325 .13, indigo 275 .2, blue 260 .19, navy 265 .14, cobalt 262 .2, azure 240 .15, sapphire 258 .19, sky 235 .12,
   cyan 205 .14, turquoise 192 .13, teal 190 .13, aqua 200 .13, mint 165 .11, emerald 158 .16, green 147 .18, sage 140 .06, olive 115 .1, lime 128 .2,
   yellow 103 .17, lemon 105 .17, gold 87 .15, golden 85 .15, amber 72 .16, honey 78 .14, orange 52 .18, peach 50 .1, coral 35 .16, copper 45 .12,
   bronze 60 .1, rust 40 .15, brown 55 .09, sand 80 .06, beige 82 .04, cream 90 .04, silver 255 .015, grey 260 .01, gray 260 .01, chrome 250 .02,
   sunset 40 .18, sunrise 60 .16, fire 45 .19, ocean 230 .13, sea 215 .12, forest 150 .11, ice 220 .08, lava 32 .2, moonlight 265 .09, candlelight 70 .13`
    .split(',')
    .map(entry => {
      const [name = '', hue, chroma] = entry.trim().split(' ')
      return [name, { hue: Number(hue), chroma: Number(chroma) }]
    }),
)
