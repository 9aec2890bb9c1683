/**
 * The Swagger page: the document, ready to try. It works without internet, from the sources and in the binary.
 *
 * 1. Script and style come from the package, embedded as files; nothing is loaded from elsewhere.
 * 2. The page runs our scripts only (no inline code), so that what a document holds stays text.
 */
import { Elysia } from 'elysia'
import style from 'swagger-ui-dist/swagger-ui.css' with { type: 'file' }
import script from 'swagger-ui-dist/swagger-ui-bundle.js' with { type: 'file' }
import { type Context, open } from '../exchange.ts'

export function pageRoutes(context: Context, document: object, version: string) {
  const text = JSON.stringify(document)
  const etag = `"${Bun.hash(text).toString(36)}"`
  const show = (body: string, type: string) => (): Response =>
    new Response(body, { headers: { ...SAFE, 'content-type': type, 'cache-control': 'no-cache' } })
  const hidden = { detail: { hide: true } }
  return new Elysia({ name: 'swagger' })
    .get('/swagger', open(context, show(page(version), 'text/html; charset=utf-8')), hidden)
    .get('/swagger/start.js', open(context, show(START, 'text/javascript; charset=utf-8')), hidden)
    .get(
      '/swagger/swagger-ui.js',
      open(context, () => asset(script, 'text/javascript; charset=utf-8')),
      hidden,
    )
    .get(
      '/swagger/swagger-ui.css',
      open(context, () => asset(style, 'text/css; charset=utf-8')),
      hidden,
    )
    .get(
      '/swagger/json',
      open(context, ({ request }) => {
        const headers = { 'content-type': 'application/json', 'cache-control': 'no-cache', etag }
        if (request.headers.get('if-none-match') === etag) return new Response(null, { status: 304, headers })
        return new Response(text, { headers })
      }),
      hidden,
    )
}

const SAFE = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; media-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
}

/** Named after the version, the files may be kept. */
function asset(path: string, type: string): Response {
  return new Response(Bun.file(path), {
    headers: { 'content-type': type, 'cache-control': 'public, max-age=86400', 'x-content-type-options': 'nosniff' },
  })
}

function page(version: string): string {
  const at = `?v=${encodeURIComponent(version)}`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>BabyChain API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/swagger/swagger-ui.css${at}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/swagger/swagger-ui.js${at}"></script>
<script src="/swagger/start.js${at}"></script>
</body>
</html>
`
}

const START = `SwaggerUIBundle({
  url: '/swagger/json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  validatorUrl: null,
})
`
