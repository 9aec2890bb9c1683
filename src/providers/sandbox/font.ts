/**
 * A small geometric alphabet of lines and arcs, so that a prompt can be set on a picture on any machine without a font file.
 *
 * 1. Glyphs are drawn with a round pen of even width. 100 units are one em; the baseline is y = 0, x-height 50, capitals 70.
 * 2. Every character gets a mark: accents are dropped, Greek and Cyrillic are written in Latin letters, all other scripts become beads.
 */

/** A run of text, set on one line: line segments in em units, four numbers each (x0, y0, x1, y1), and its advance. */
export type Line = { readonly segments: readonly number[]; readonly width: number }

/** Characters that the alphabet has, for any text. Control characters and line breaks are spaces; emoji are left out. */
export function spell(text: string): string {
  let plain = ''
  for (const char of text.normalize('NFKD').replace(/[\p{M}\p{Cf}\p{Cs}]/gu, '')) {
    const lower = char.toLowerCase()
    const latin = LATIN.get(lower)
    if (GLYPHS.has(char)) plain += char
    else if (/\s|\p{Cc}/u.test(char)) plain += ' '
    else if (latin !== undefined) plain += char === lower ? latin : latin.charAt(0).toUpperCase() + latin.slice(1)
    else if (!/\p{Extended_Pictographic}/u.test(char)) plain += BEADS[(char.codePointAt(0) ?? 0) % BEADS.length]
  }
  return plain.replace(/ +/g, ' ').trim()
}

/** Sets spelled text; `tracking` is extra space between letters in em units. */
export function setLine(text: string, tracking = 0): Line {
  const segments: number[] = []
  let at = 0
  for (const char of text) {
    const glyph = GLYPHS.get(char)
    if (!glyph) continue
    for (let i = 0; i < glyph.segments.length; i += 2) segments.push(glyph.segments[i]! + at, glyph.segments[i + 1]!)
    at += glyph.width + tracking
  }
  return { segments, width: Math.max(0, at - tracking) }
}

/** Breaks spelled text into at most `lines` lines no wider than `width` em units; what does not fit ends in an ellipsis. */
export function wrap(text: string, width: number, lines: number): readonly string[] {
  const words = text.split(' ').flatMap(word => pieces(word, width))
  const rows: string[] = []
  for (let i = 0; i < words.length; ) {
    let row = words[i++]!
    while (i < words.length && setLine(`${row} ${words[i]}`).width <= width) row += ` ${words[i++]}`
    rows.push(row)
    if (rows.length === lines && i < words.length) {
      rows[lines - 1] = shorten(row, width)
      break
    }
  }
  return rows.filter(row => row !== '')
}

function pieces(word: string, width: number): string[] {
  const parts: string[] = []
  let part = ''
  for (const char of word) {
    if (part !== '' && setLine(part + char).width > width) {
      parts.push(part)
      part = ''
    }
    part += char
  }
  return [...parts, part]
}

function shorten(row: string, width: number): string {
  let cut = row
  while (cut !== '' && setLine(`${cut}…`).width > width) cut = cut.slice(0, -1)
  return `${cut.replace(/[\s,.;:–-]+$/, '')}…`
}

/** Advance, then strokes: `x,y x,y …` is a line, `@x,y rx,ry from,to` an arc in degrees, counterclockwise from the right. */
const SHAPES = `
a 62 @30,25 24,25 0,360; 54,0 54,50
b 62 8,0 8,74; @32,25 24,25 0,360
c 55 @31,25 24,25 48,312
d 62 @30,25 24,25 0,360; 54,0 54,74
e 60 6,27 54,27; @30,25 24,25 5,318
f 34 17,0 17,58; @31,58 14,16 65,180; 5,48 31,48
g 62 @30,25 24,25 0,360; 54,50 54,-2; @31,-2 23,19 205,360
h 60 8,0 8,74; @30,28 22,22 0,180; 52,0 52,28
i 18 9,0 9,50; @9,66 1.5,1.5 0,360
j 20 11,50 11,-8; @1,-8 10,13 290,360; @11,66 1.5,1.5 0,360
k 51 8,0 8,74; 45,50 8,18; 21,29 48,0
l 18 9,0 9,74
m 90 8,0 8,50; @26,31 18,19 0,180; 44,0 44,31; @63,31 19,19 0,180; 82,0 82,31
n 60 8,0 8,50; @30,28 22,22 0,180; 52,0 52,28
o 62 @31,25 25,25 0,360
p 62 8,-22 8,50; @32,25 24,25 0,360
q 62 @30,25 24,25 0,360; 54,-22 54,50
r 37 8,0 8,50; @27,29 19,21 62,180
s 45 @22,37.5 14,12.5 32,270; @22,12.5 16,12.5 -148,90
t 36 17,66 17,13; @29,13 12,13 180,285; 5,48 31,48
u 60 8,50 8,22; @30,22 22,22 180,360; 52,0 52,50
v 50 4,50 25,0 46,50
w 74 4,50 20.5,0 37,49 53.5,0 70,50
x 50 6,50 44,0; 44,50 6,0
y 50 4,50 25,1; 46,50 16,-22
z 50 6,50 43,50 6,0 45,0
A 64 4,0 32,70 60,0; 14,24 50,24
B 58 9,0 9,70 30,70; @30,53 17,17 -90,90; 9,36 33,36; @33,18 18,18 -90,90; 9,0 33,0
C 72 @40,35 33,35 46,314
D 70 9,0 9,70 27,70; @27,35 35,35 -90,90; 27,0 9,0
E 52 46,70 9,70 9,0 46,0; 9,37 42,37
F 48 45,70 9,70 9,0; 9,36 40,36
G 80 @40,35 33,35 46,358; 73,34 47,34
H 66 9,0 9,70; 57,0 57,70; 9,37 57,37
I 20 10,0 10,70
J 43 34,70 34,18; @19,18 15,18 205,360
K 56 9,0 9,70; 50,70 9,28; 23,42 54,0
L 46 9,70 9,0 43,0
M 82 9,0 9,70 41,16 73,70 73,0
N 66 9,0 9,70 57,0 57,70
O 84 @42,35 36,35 0,360
P 56 9,0 9,70 32,70; @32,52 18,18 -90,90; 32,34 9,34
Q 84 @42,35 36,35 0,360; 50,18 74,-6
R 58 9,0 9,70 32,70; @32,52 18,18 -90,90; 32,34 9,34; 30,34 53,0
S 56 @28,52.5 17,17.5 32,270; @28,17.5 20,17.5 -148,90
T 56 4,70 52,70; 28,70 28,0
U 66 9,70 9,24; @33,24 24,24 180,360; 57,24 57,70
V 62 4,70 31,0 58,70
W 92 4,70 25,0 46,68 67,0 88,70
X 58 6,70 52,0; 52,70 6,0
Y 58 4,70 29,34 54,70; 29,34 29,0
Z 56 6,70 49,70 6,0 50,0
0 56 @28,35 22,35 0,360
1 42 10,56 26,70 26,0
2 56 @27,50 20,20 -32,168; 44,39 7,0 49,0
3 56 @26,53 17,17 -90,150; 21,36 27,36; @26,18 20,18 -150,90
4 58 40,0 40,70 6,20 53,20
5 56 45,70 16,70 12,39; @26,22.5 22,22.5 -150,130
6 56 @28,22 22,22 0,360; 38,70 9,32
7 54 6,70 48,70 20,0
8 56 @28,53 16,17 0,360; @28,18 21,18 0,360
9 56 @28,48 22,22 0,360; 47,38 18,0
. 22 @11,1 2,2 0,360
, 22 12,3 7,-12
: 22 @11,1 2,2 0,360; @11,42 2,2 0,360
; 22 12,3 7,-12; @11,42 2,2 0,360
! 22 11,70 11,20; @11,1 2,2 0,360
? 48 @23,52 17,18 -60,165; 31,36 23,28 23,18; @23,1 2,2 0,360
' 18 9,72 9,56
" 30 9,72 9,56; 21,72 21,56
- 34 6,27 28,27
_ 52 4,-8 48,-8
( 28 @36,28 26,50 128,232
) 28 @-8,28 26,50 -52,52
[ 28 22,76 9,76 9,-14 22,-14
] 28 6,76 19,76 19,-14 6,-14
{ 32 26,76 17,72 17,38 9,31 17,24 17,-10 26,-14
} 32 6,76 15,72 15,38 23,31 15,24 15,-10 6,-14
/ 44 6,-10 38,76
\\ 44 6,76 38,-10
| 20 10,-14 10,78
& 66 60,34 50,14; @30,18 23,18 90,330; @29,52 14,17 0,360; 22,37 58,0
@ 88 @44,28 16,17 0,360; 60,46 60,20; @67,20 8,8 180,330; @44,28 36,38 -20,300
# 60 20,4 26,66; 38,4 44,66; 8,24 52,24; 11,46 55,46
% 78 62,70 16,0; @20,54 13,15 0,360; @58,16 13,15 0,360
+ 56 28,10 28,54; 6,32 50,32
= 56 8,22 48,22; 8,42 48,42
* 40 20,70 20,42; 8,63 32,49; 32,63 8,49
< 52 44,56 8,32 44,8
> 52 8,56 44,32 8,8
~ 56 @18,28 11,9 20,170; @40,32 11,9 200,350
^ 46 8,48 23,70 38,48
$ 56 @28,52.5 17,16 32,270; @28,19 20,17.5 -148,90; 28,80 28,-10
€ 64 @40,35 28,35 46,314; 5,42 46,42; 5,28 42,28
£ 56 @30,52 15,18 20,180; 15,52 15,0; 6,0 50,0; 6,32 40,32
° 34 @17,60 10,10 0,360
· 28 @14,27 2.5,2.5 0,360
• 34 @17,27 6,6 0,360; @17,27 2,2 0,360
× 50 10,48 40,16; 40,48 10,16
– 52 5,27 47,27
— 82 5,27 77,27
‘ 18 7,58 11,72
’ 18 11,72 7,58
“ 30 7,58 11,72; 19,58 23,72
” 30 11,72 7,58; 23,72 19,58
… 62 @11,1 2,2 0,360; @31,1 2,2 0,360; @51,1 2,2 0,360
◦ 38 @19,27 9,9 0,360
◇ 42 21,39 33,27 21,15 9,27 21,39
▹ 38 12,38 28,27 12,16 12,38`

const BEADS = ['◦', '◇', '•', '▹', '·'] as const

const LATIN: ReadonlyMap<string, string> = new Map(
  `ß ss,æ ae,œ oe,ø o,ł l,đ d,ð d,þ th,ı i,ſ s,« ",» ",„ ",‚ ',‹ ',› ',\` ',´ ',− -,‐ -,‑ -,⁄ /,
   а a,б b,в v,г g,д d,е e,ж zh,з z,и i,к k,л l,м m,н n,о o,п p,р r,с s,т t,у u,ф f,х kh,ц ts,ч ch,ш sh,щ shch,ъ ,ы y,ь ,э e,ю yu,я ya,і i,є ye,ґ g,
   α a,β b,γ g,δ d,ε e,ζ z,η i,θ th,ι i,κ k,λ l,μ m,ν n,ξ x,ο o,π p,ρ r,σ s,ς s,τ t,υ y,φ f,χ ch,ψ ps,ω o`
    .split(/,\s*/)
    .map(pair => {
      const cut = pair.indexOf(' ')
      return [pair.slice(0, cut), pair.slice(cut + 1)] as const
    }),
)

const GLYPHS: ReadonlyMap<string, Line> = new Map([
  [' ', { segments: [], width: 26 }],
  ...SHAPES.trim()
    .split('\n')
    .map(row => {
      const [char = '', width = '', ...strokes] = row.split(' ')
      return [char, { width: Number(width), segments: strokes.join(' ').split('; ').flatMap(segmentsOf) }] as const
    }),
])

function segmentsOf(stroke: string): number[] {
  const points = stroke.startsWith('@') ? arc(stroke.slice(1)) : stroke.split(' ').map(pairOf)
  return points.slice(1).flatMap((point, i) => [...points[i]!, ...point])
}

function arc(text: string): (readonly [number, number])[] {
  const [[x, y] = [0, 0], [rx, ry] = [0, 0], [from, to] = [0, 0]] = text.split(' ').map(pairOf)
  const steps = Math.max(6, Math.ceil(Math.abs(to - from) / 12))
  return Array.from({ length: steps + 1 }, (_, i) => {
    const angle = ((from + ((to - from) * i) / steps) * Math.PI) / 180
    return [x + rx * Math.cos(angle), y + ry * Math.sin(angle)] as const
  })
}

function pairOf(text: string): readonly [number, number] {
  const cut = text.indexOf(',')
  return [Number(text.slice(0, cut)), Number(text.slice(cut + 1))]
}
