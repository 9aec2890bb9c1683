/**
 * Holds the source tree to the design: who may import whom, what the core must not touch, how files are shaped.
 * Each rule is a function from a tree (path → text) to its violations, so that every rule is also shown a broken tree.
 *
 * 1. Imports are read from the text, type imports included: a type that points to the wrong part is a dependency too.
 *    Only the rule against circles leaves them out: types may describe each other, loading order knows nothing of them.
 * 2. Use of a global (`fetch`, `Date`, …) is found by the compiler, which knows a parameter or a method named `fetch`
 *    from the global one and does not look into comments and strings.
 * 3. A part without files passes: the rules hold for a tree that is still growing.
 */
import { describe, expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { join, posix } from 'node:path'

type Tree = ReadonlyMap<string, string>
type Rule = (tree: Tree) => string[]

/** The table "Who may import whom" of the design. A part may always import itself. */
const mayImport: Record<string, readonly string[]> = {
  core: [],
  models: ['core'],
  net: ['core'],
  providers: ['core', 'net'],
  store: ['core', 'net'],
  engine: ['core'],
  http: ['core', 'models'],
  lab: [], // and the types of http/dto, see crossings
  config: ['core', 'models', 'net', 'providers', 'store', 'engine', 'http'],
  app: ['core', 'models', 'net', 'providers', 'store', 'engine', 'http', 'config'],
  main: ['app', 'config'], // and the Lab's HTML, see crossings
}

/** Packages that belong to one part, because that part is what gets replaced together with them. */
const packageHomes: [RegExp, readonly string[]][] = [
  [/^(drizzle-orm|bun:sqlite)(\/|$)/, ['store']],
  [/^(elysia|@elysiajs\/[^/]+|@sinclair\/typebox)(\/|$)/, ['http', 'app']],
  [/^node:(http|https|http2|net|tls|dns|dgram)(\/|$)/, ['net', 'http', 'app']],
  [/^@opentelemetry\//, ['app']],
]

/** Time, chance, input and output arrive in the pure parts as data; not even asking is allowed. */
const pureParts = ['core', 'models']
const impure = [
  ...['Date', 'Math.random', 'performance', 'crypto', 'fetch', 'WebSocket', 'process', 'process.env.NODE_ENV', 'Bun'],
  ...['globalThis', 'console', 'require', 'setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask'],
]
const fetches = [
  'fetch',
  'Bun.fetch',
  'globalThis.fetch',
  'self.fetch',
  'window.fetch',
  'XMLHttpRequest',
  'EventSource',
]
const environments = ['process.env', 'process.env.NODE_ENV', 'Bun.env', 'import.meta.env']

const lineLimit = 450

const rules: Record<string, Rule> = {
  'every part imports only what the table allows': crossings,
  'packages stay in the part that they belong to': strayPackages,
  'the pure parts use no clock, chance, network, process or timer': impurities,
  'one module fetches': strayFetches,
  'the environment is read in one place': strayEnvironment,
  'no two files need each other to load, directly or around a corner': cycles,
  'relative imports name the file with its ending': missingEndings,
  'no default exports, no barrels, no drawers for everything': shapes,
  'no file outgrows its reader': longFiles,
}

describe('the house', () => {
  const root = join(import.meta.dir, '..')
  const tree = readTree(root, '{ts,tsx}')
  for (const [name, rule] of Object.entries(rules)) {
    test(name, () => expect(rule(tree)).toEqual([]))
  }

  test('no stylesheet outgrows its reader', () => {
    const styles = readTree(root, 'css')
    expect([...styles.keys()]).toContain('src/lab/style.css')
    expect(longFiles(styles)).toEqual([])
  })

  test('the import scanner misses nothing that the compiler sees', () => {
    for (const [path, text] of tree) {
      const seen = importsOf(path, text).map(found => found.specifier)
      const written = transpiler(path)
        .scanImports(text)
        .filter(found => !/^react(\/|$)/.test(found.path)) // what the compiler adds to a file with JSX
      for (const { path: specifier } of written) expect([path, ...seen]).toContain(specifier)
    }
  })
})

describe('the rules', () => {
  const broken = (rule: Rule, files: Record<string, string>) => rule(new Map(Object.entries(files)))

  test('a part that reaches into a part it may not know is found, for every pair of the table', () => {
    const parts = Object.keys(mayImport)
    for (const from of parts) {
      for (const to of parts.filter(part => part !== from)) {
        const found = broken(crossings, { [`src/${from}/a.ts`]: `import type { B } from '../${to}/b.ts'` })
        expect([from, to, found.length]).toEqual([from, to, mayImport[from]?.includes(to) ? 0 : 1])
      }
    }
  })

  test('every way to write an import counts', () => {
    const ways = [
      `import { a } from '../store/a.ts'`,
      `import type { A } from "../store/a.ts"`,
      `import '../store/a.ts'`,
      `import {\n  a,\n  type B,\n} from '../store/a.ts'`,
      `import * as a from '../store/a.ts'`,
      `const one = 1; import a from '../store/a.ts'`,
      `export { a } from '../store/a.ts'`,
      `export type { A } from '../store/a.ts'`,
      `export * from '../store/a.ts'`,
      `export const a = await import('../store/a.ts')`,
      `type A = import('../store/a.ts').A`,
      `export const at = new URL('../store/a.ts', import.meta.url)`,
    ]
    for (const way of ways) expect([way, broken(crossings, { 'src/core/b.ts': way }).length]).toEqual([way, 1])
    expect(
      broken(crossings, { 'src/core/b.ts': `// import '../store/a.ts'\nexport const from = '../store/a.ts'` }),
    ).toEqual([])
  })

  test('app.ts and main.ts are parts of their own; the Lab gives its page to main and takes types from http/dto', () => {
    expect(broken(crossings, { 'src/engine/a.ts': `import '../app.ts'` })).toHaveLength(1)
    expect(broken(crossings, { 'src/main.ts': `import './store/sqlite.ts'` })).toHaveLength(1)
    expect(broken(crossings, { 'src/main.ts': `import './lab/lab.ts'` })).toHaveLength(1)
    expect(broken(crossings, { 'src/main.ts': `import page from './lab/index.html'\nimport './app.ts'` })).toEqual([])
    expect(broken(crossings, { 'src/app.ts': `import page from './lab/index.html'` })).toHaveLength(1)
    expect(broken(crossings, { 'src/lab/lab.ts': `import type { Run } from '../http/dto.ts'` })).toEqual([])
    expect(broken(crossings, { 'src/lab/lab.ts': `import { Run } from '../http/dto.ts'` })).toHaveLength(1)
    expect(broken(crossings, { 'src/lab/lab.ts': `import type { Run } from '../http/api.ts'` })).toHaveLength(1)
  })

  test('a folder that the design does not name is found, and so is an import from outside src', () => {
    expect(broken(crossings, { 'src/services/a.ts': '' })).toHaveLength(1)
    expect(broken(crossings, { 'src/store/a.ts': `import '../../test/support/clock.ts'` })).toHaveLength(1)
    expect(broken(crossings, { 'src/main.ts': `import version from '../package.json' with { type: 'json' }` })).toEqual(
      [],
    )
  })

  test('a package outside its part is found', () => {
    expect(broken(strayPackages, { 'src/core/a.ts': `import { Type } from 'typebox'` })).toEqual([])
    expect(broken(strayPackages, { 'src/core/a.ts': `import { randomUUID } from 'node:crypto'` })).toHaveLength(1)
    expect(broken(strayPackages, { 'src/models/a.ts': `import pino from 'pino'` })).toHaveLength(1)
    expect(broken(strayPackages, { 'src/engine/a.ts': `import { eq } from 'drizzle-orm'` })).toHaveLength(1)
    expect(broken(strayPackages, { 'src/engine/a.ts': `import { Elysia } from 'elysia'` })).toHaveLength(1)
    expect(broken(strayPackages, { 'src/providers/a.ts': `import { request } from 'node:https'` })).toHaveLength(1)
    expect(broken(strayPackages, { 'src/net/egress.ts': `import { request } from 'node:https'` })).toEqual([])
    const traces = `import { trace } from '@opentelemetry/api'`
    expect(broken(strayPackages, { 'src/net/egress.ts': traces, 'src/engine/a.ts': traces })).toHaveLength(2)
    expect(broken(strayPackages, { 'src/app/tracing/otlp.ts': traces })).toEqual([])
  })

  test('every impure global is found in a pure part, and only there', () => {
    for (const name of impure) {
      const use = `export const a = () => ${name}`
      expect([name, broken(impurities, { 'src/core/a.ts': use }).length > 0]).toEqual([name, true])
      expect(broken(impurities, { 'src/engine/a.ts': use })).toEqual([])
    }
    expect(broken(impurities, { 'src/models/a.ts': 'export const at = new Date(0)' })).toHaveLength(1)
    expect(
      broken(impurities, {
        'src/core/a.ts': '/** A Date. */ export type At = Date; export const two = Math.max(1, 2)',
      }),
    ).toEqual([])
  })

  test('a bare fetch is found wherever it hides, but not a method, a parameter or a word', () => {
    const bad = [
      'fetch(url)',
      '({ fetch })',
      'Bun.fetch(url)',
      'globalThis.fetch(url)',
      '(() => [fetch(url)])()',
      'typeof fetch',
    ]
    for (const use of bad)
      expect([
        use,
        broken(strayFetches, { 'src/providers/a.ts': `export const a = (url: string) => ${use}` }).length,
      ]).toEqual([use, 1])
    const good =
      'export const a = { fetch(url: string) { return app.fetch(url) } }; export const b = (fetch: F) => fetch("fetch(1)") // fetch(1)'
    expect(broken(strayFetches, { 'src/app.ts': good })).toEqual([])
    for (const path of ['src/net/provider-http.ts', 'src/main.ts', 'src/lab/lab.ts']) {
      expect(broken(strayFetches, { [path]: 'export const a = fetch("/")' })).toEqual([])
    }
  })

  test('the environment is found outside config and main', () => {
    for (const use of environments)
      expect([use, broken(strayEnvironment, { 'src/store/a.ts': `export const a = ${use}` }).length]).toEqual([use, 1])
    expect(broken(strayEnvironment, { 'src/main.ts': 'export const a = process.env.PORT' })).toEqual([])
  })

  test('a circle of imports is found and named once; types may describe each other', () => {
    const circle = {
      'src/core/a.ts': `import { b } from './b.ts'`,
      'src/core/b.ts': `import { type C } from './c.ts'`,
      'src/core/c.ts': `import './a.ts'`,
      'src/core/d.ts': `import './a.ts'\nimport './b.ts'`,
    }
    expect(broken(cycles, circle)).toEqual(['src/core/a.ts → src/core/b.ts → src/core/c.ts → src/core/a.ts'])
    expect(broken(cycles, { ...circle, 'src/core/c.ts': '' })).toEqual([])
    expect(broken(cycles, { ...circle, 'src/core/c.ts': `import type { A } from './a.ts'` })).toEqual([])
  })

  test('a relative import without its ending is found', () => {
    expect(
      broken(missingEndings, { 'src/core/a.ts': `import './run'\nimport './errors.ts'\nimport 'typebox'` }),
    ).toHaveLength(1)
  })

  test('default exports, barrels and drawers are found', () => {
    const bad = {
      'src/core/a.ts': 'export default 1',
      'src/core/b.ts': `const b = 1\nexport { b as default }`,
      'src/core/c.ts': `/** All of it. */\nexport { a } from './a.ts'\nexport type { D } from './d.ts'`,
      'src/core/d.ts': `export * from './a.ts'\nexport const d = 1`,
      'src/core/index.ts': 'export const e = 1',
      'src/net/utils.ts': 'export const f = 1',
      'src/net/helpers/g.ts': 'export const g = 1',
      'src/net/h.test.ts': 'test()',
    }
    for (const [path, text] of Object.entries(bad))
      expect([path, broken(shapes, { [path]: text }).length]).toEqual([path, 1])
    expect(
      broken(shapes, {
        'src/core/a.ts': `export type { B } from './b.ts'\nexport const a = 1`,
        'src/main.ts': `import './app.ts'`,
      }),
    ).toEqual([])
  })

  test('a file of 450 lines is too long, one of 449 is not', () => {
    expect(broken(longFiles, { 'src/core/a.ts': 'x\n'.repeat(450) })).toHaveLength(1)
    expect(broken(longFiles, { 'src/core/a.ts': 'x\n'.repeat(449) })).toEqual([])
  })
})

function crossings(tree: Tree): string[] {
  const problems: string[] = []
  for (const [path, text] of tree) {
    const from = partOf(path)
    const allowed = mayImport[from]
    if (!allowed) problems.push(`${path}: the design names no part "${from}"`)
    for (const { target, typeOnly } of importsOf(path, text)) {
      if (!target || !allowed) continue
      const to = partOf(target)
      const labPage = from === 'main' && to === 'lab' && target.endsWith('.html')
      const wireTypes = from === 'lab' && typeOnly && /^src\/http\/dto(\.ts|\/)/.test(target)
      const version = ['main', 'app', 'config'].includes(from) && target === 'package.json'
      if (to !== from && !allowed.includes(to) && !labPage && !wireTypes && !version)
        problems.push(`${path} imports ${target}`)
    }
  }
  return problems
}

function strayPackages(tree: Tree): string[] {
  return everyImport(tree, ({ path, specifier, target }) => {
    if (target) return false
    if (pureParts.includes(partOf(path))) return !/^typebox(\/|$)/.test(specifier)
    return packageHomes.some(([name, homes]) => name.test(specifier) && !homes.includes(partOf(path)))
  })
}

function impurities(tree: Tree): string[] {
  return everyFile(tree, (path, text) => (pureParts.includes(partOf(path)) ? globalsUsed(path, text, impure) : []))
}

/** The commands of main are clients of their own server (`health`, `demo`); the Lab runs in a browser. */
function strayFetches(tree: Tree): string[] {
  const allowed = (path: string) => path === 'src/net/provider-http.ts' || ['main', 'lab'].includes(partOf(path))
  return everyFile(tree, (path, text) => (allowed(path) ? [] : globalsUsed(path, text, fetches)))
}

function strayEnvironment(tree: Tree): string[] {
  const allowed = (path: string) => ['config', 'main'].includes(partOf(path))
  return everyFile(tree, (path, text) => (allowed(path) ? [] : globalsUsed(path, text, environments)))
}

function cycles(tree: Tree): string[] {
  const found: string[] = []
  const done = new Set<string>()
  const visit = (path: string, trail: readonly string[]) => {
    if (trail.includes(path)) found.push([...trail.slice(trail.indexOf(path)), path].join(' → '))
    const text = tree.get(path)
    if (done.has(path) || text === undefined) return
    done.add(path)
    for (const { target, typeOnly } of importsOf(path, text)) if (target && !typeOnly) visit(target, [...trail, path])
  }
  for (const path of tree.keys()) visit(path, [])
  return found
}

function missingEndings(tree: Tree): string[] {
  return everyImport(tree, ({ specifier, target }) => target !== null && !/\.\w+$/.test(specifier))
}

function shapes(tree: Tree): string[] {
  return everyFile(tree, (path, text) => {
    const problems: string[] = []
    const rest = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '').replace(staticImport, '')
    if (transpiler(path).scan(text).exports.includes('default')) problems.push('default export')
    if (/^\s*export\s+\*/m.test(text) || (/\bexport\b/.test(text) && !/\w/.test(rest))) problems.push('barrel')
    if (/(^|\/)index\.tsx?$/.test(path)) problems.push('index file')
    if (/(^|\/)(utils?|helpers?|common|misc|lib)(\/|\.tsx?$)/.test(path)) problems.push('a drawer, not a module')
    if (/\.test\.tsx?$/.test(path)) problems.push('tests live in test/')
    return problems
  })
}

function longFiles(tree: Tree): string[] {
  return everyFile(tree, (_path, text) => {
    const lines = text.split('\n').length - (text.endsWith('\n') ? 1 : 0)
    return lines >= lineLimit ? [`${lines} lines, ${lineLimit - 1} at most`] : []
  })
}

interface Import {
  readonly path: string
  readonly specifier: string
  /** The imported file, counted from the root of the project; null for a package. */
  readonly target: string | null
  readonly typeOnly: boolean
}

// From `import` or `export` up to its string, never across a second one of these words.
const staticImport =
  /(?:^|[;}])[ \t]*(?:import|export)\s+(?:(type)\s+(?!from\b))?(?:(?:(?!\b(?:import|export)\b)[\w$*{},\s])+?\bfrom\s*)?(['"])([^'"\n]+)\2/gm
const dynamicImport = /\bimport\s*\(\s*(['"])([^'"\n]+)\1/g
const besideImport = /\bnew URL\(\s*(['"])(\.[^'"\n]+)\1\s*,\s*import\.meta\.url/g

function importsOf(path: string, text: string): Import[] {
  const found = [
    ...[...text.matchAll(staticImport)].map(([, type, , specifier = '']) => ({ specifier, typeOnly: type === 'type' })),
    ...[...text.matchAll(dynamicImport), ...text.matchAll(besideImport)].map(([, , specifier = '']) => ({
      specifier,
      typeOnly: false,
    })),
  ]
  return found.map(({ specifier, typeOnly }) => {
    const target = specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : null
    return { path, specifier, target, typeOnly }
  })
}

function transpiler(path: string, define: Record<string, string> = {}): Bun.Transpiler {
  return new Bun.Transpiler({ loader: path.endsWith('x') ? 'tsx' : 'ts', define })
}

/** Which of these globals a file uses. The compiler replaces a name only where it means the global. */
function globalsUsed(path: string, text: string, names: readonly string[]): string[] {
  const mark = (name: string) => `__global_${names.indexOf(name)}__`
  const out = transpiler(path, Object.fromEntries(names.map(name => [name, mark(name)]))).transformSync(text)
  return names.filter(name => out.includes(mark(name)))
}

function everyFile(tree: Tree, check: (path: string, text: string) => string[]): string[] {
  return [...tree].flatMap(([path, text]) => check(path, text).map(problem => `${path}: ${problem}`))
}

function everyImport(tree: Tree, isWrong: (found: Import) => boolean): string[] {
  return [...tree].flatMap(([path, text]) =>
    importsOf(path, text)
      .filter(isWrong)
      .map(({ specifier }) => `${path} imports ${specifier}`),
  )
}

/** `src/core/run.ts` is of `core`, `src/app.ts` of `app`, and so would be a folder of that name. */
function partOf(path: string): string {
  return path.match(/^src\/([^/.]+)/)?.[1] ?? path
}

function readTree(root: string, ending: string): Tree {
  const files = [...new Bun.Glob(`src/**/*.${ending}`).scanSync(root)].sort()
  return new Map(files.map(path => [path, readFileSync(join(root, path), 'utf8')]))
}
