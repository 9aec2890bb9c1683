/**
 * Serves the Lab: its one page on all of its paths, and the files that the page names.
 *
 * 1. Bun's own HTML routes set no headers, so we serve the files: in the binary they lie inside it, named by the page's
 *    manifest; from the sources they are bundled once, at the first request, by the same bundler.
 * 2. Every page carries the policy below: no script, style or request but our own, and no frame around it.
 * 3. Names of files hold a hash of what is in them, so they may be kept for ever; the page itself is always asked for.
 */
import { basename } from 'node:path'
import type { HTMLBundle } from 'bun'
import type { Pages } from '../app.ts'
import page from '../lab/index.html'

/** What the binary's bundler leaves in the place of an HTML import. */
type Built = HTMLBundle & { files?: readonly { path: string; loader: string; headers: Record<string, string> }[] }

interface Served {
  body: Uint8Array<ArrayBuffer>
  gzipped: Uint8Array<ArrayBuffer>
  type: string
  isPage: boolean
}

const PATHS = ['/', '/runs', '/runs/*', '/deliveries', '/deliveries/*', '/settings', '/lab', '/lab/inbox']
/** Files of the bundle have a hash in their name, and only those. */
const FILE = /^[\w.-]+-[a-z0-9]{8}\.(js|css|svg)$/

const POLICY = [
  "default-src 'self'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "media-src 'self' blob:",
  "connect-src 'self'",
  "object-src 'none'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
  "form-action 'self'",
].join('; ')

const HEADERS = {
  'content-security-policy': POLICY,
  'cross-origin-opener-policy': 'same-origin',
  'permissions-policy': 'camera=(), microphone=(), geolocation=()',
  'referrer-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
}

export function labPages(): Pages {
  // Who works on the page with --watch sees each change at the next reload.
  const files = process.execArgv.includes('--watch') ? load : once(load)
  const html = {
    GET: async (request: Request) =>
      answer(
        request,
        [...(await files()).values()].find(file => file.isPage),
      ),
  }
  const file = {
    GET: async (request: Request) => answer(request, (await files()).get(basename(request.url.split(/[?#]/)[0] ?? ''))),
  }
  return { ...Object.fromEntries(PATHS.map(path => [path, html])), '/lab/files/:name': file }
}

function answer(request: Request, file: Served | undefined): Response {
  if (!file) return new Response('There is no such file.', { status: 404, headers: HEADERS })
  const cache = file.isPage ? 'no-cache' : 'public, max-age=31536000, immutable'
  const headers = { ...HEADERS, 'content-type': file.type, 'cache-control': cache, vary: 'accept-encoding' }
  if (!/\bgzip\b/.test(request.headers.get('accept-encoding') ?? '')) return new Response(file.body, { headers })
  return new Response(file.gzipped, { headers: { ...headers, 'content-encoding': 'gzip' } })
}

async function load(): Promise<Map<string, Served>> {
  const { files, index } = page as Built
  const parts = files
    ? files.map(({ path, loader, headers }) => ({
        path,
        isPage: loader === 'html',
        type: headers['content-type'] ?? 'application/octet-stream',
        read: () => Bun.file(path).bytes(),
      }))
    : await bundle(index)
  const served = await Promise.all(
    parts.map(async ({ path, isPage, type, read }) => {
      const bytes = await read()
      const body = isPage ? rooted(bytes) : bytes
      return [basename(path), { body, gzipped: Bun.gzipSync(body, { level: 9 }), type, isPage }] as const
    }),
  )
  return new Map(served)
}

/** The bundler names files beside the page; the page has many paths, so they get one folder of their own. */
function rooted(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const html = new TextDecoder().decode(bytes)
  const named = html.replace(/(src|href)="(?:\.?\/)?([^"/]+)"/g, (whole, attribute: string, name: string) =>
    FILE.test(name) ? `${attribute}="/lab/files/${name}"` : whole,
  )
  return new TextEncoder().encode(named)
}

/** From the sources; it takes a tenth of a second. */
async function bundle(index: string) {
  const { outputs } = await Bun.build({
    entrypoints: [index],
    minify: true,
    define: { 'process.env.NODE_ENV': '"production"' },
  })
  return outputs.map(output => ({
    path: output.path,
    isPage: output.type.startsWith('text/html'),
    type: output.type,
    read: async () => new Uint8Array(await output.arrayBuffer()),
  }))
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null
  return () => {
    made ??= make()
    return made
  }
}
