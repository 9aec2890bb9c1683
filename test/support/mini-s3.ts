/**
 * A small S3 in memory, on loopback: path-style addresses, no signature check, with latency and faults on request.
 * Speaks what Bun.S3Client and Litestream ask for: GET with ranges, HEAD, PUT (aws-chunked too), DELETE, multipart uploads,
 * listings of both versions, deletion of many.
 */
export interface MiniS3 {
  /** `http://127.0.0.1:<port>` */
  endpoint: string
  /** Objects by `bucket/key`. */
  objects: Map<string, StoredObject>
  /** Requests so far, by method. */
  requests: Record<string, number>
  /** The next `n` requests are answered 503 SlowDown. */
  failNext(n: number): void
  latencyMs: number
  close(): Promise<void>
}

export interface StoredObject {
  body: Uint8Array<ArrayBuffer>
  etag: string
  type: string
  at: Date
}

export function miniS3(): MiniS3 {
  const objects: MiniS3['objects'] = new Map()
  const uploads: Uploads = new Map()
  const requests: Record<string, number> = {}
  let failing = 0
  const server = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    maxRequestBodySize: 2 ** 30,
    async fetch(request) {
      requests[request.method] = (requests[request.method] ?? 0) + 1
      if (s3.latencyMs > 0) await Bun.sleep(s3.latencyMs)
      if (failing > 0) {
        failing -= 1
        return refusal(503, 'SlowDown')
      }
      const url = new URL(request.url)
      const [bucket = '', ...path] = url.pathname.slice(1).split('/').map(decodeURIComponent)
      const call: Call = { request, query: url.searchParams, bucket, key: path.join('/'), objects, uploads }
      return call.key === '' ? onBucket(call) : onObject(call)
    },
  })
  const s3: MiniS3 = {
    endpoint: `http://127.0.0.1:${server.port}`,
    objects,
    requests,
    failNext: n => {
      failing = n
    },
    latencyMs: 0,
    close: () => server.stop(true),
  }
  return s3
}

type Uploads = Map<string, { type: string; parts: Map<number, Uint8Array> }>

interface Call {
  request: Request
  query: URLSearchParams
  bucket: string
  key: string
  objects: MiniS3['objects']
  uploads: Uploads
}

async function onBucket({ request, query, bucket, objects }: Call): Promise<Response> {
  if (request.method === 'PUT' || request.method === 'HEAD') return new Response()
  if (query.has('location')) return xml('<LocationConstraint/>')
  if (request.method === 'POST' && query.has('delete')) {
    const keys = [...(await request.text()).matchAll(/<Key>([^<]*)<\/Key>/g)].map(match => match[1] ?? '')
    for (const key of keys) objects.delete(`${bucket}/${key}`)
    return xml(
      `<DeleteResult>${keys.map(key => `<Deleted><Key>${xmlText(key)}</Key></Deleted>`).join('')}</DeleteResult>`,
    )
  }
  return request.method === 'GET' ? list(query, bucket, objects) : refusal(405, 'MethodNotAllowed')
}

function list(query: URLSearchParams, bucket: string, objects: MiniS3['objects']): Response {
  const prefix = query.get('prefix') ?? ''
  const delimiter = query.get('delimiter') ?? ''
  const max = Number(query.get('max-keys') ?? 1_000)
  const after = query.get('continuation-token') ?? query.get('start-after') ?? query.get('marker') ?? ''
  const entries = new Map<string, string>()
  let last = ''
  let truncated = false
  for (const [id, object] of [...objects].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const key = id.slice(bucket.length + 1)
    if (!id.startsWith(`${bucket}/${prefix}`) || key <= after) continue
    const end = delimiter ? key.indexOf(delimiter, prefix.length) : -1
    const folder = end < 0 ? null : key.slice(0, end + delimiter.length)
    if (folder !== null && (folder <= after || entries.has(folder))) continue
    truncated = entries.size >= max
    if (truncated) break
    entries.set(
      folder ?? key,
      folder === null ? contents(key, object) : `<CommonPrefixes><Prefix>${xmlText(folder)}</Prefix></CommonPrefixes>`,
    )
    last = key
  }
  const next = truncated
    ? `<NextContinuationToken>${xmlText(last)}</NextContinuationToken><NextMarker>${xmlText(last)}</NextMarker>`
    : ''
  return xml(
    `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>${bucket}</Name><Prefix>${xmlText(prefix)}</Prefix>` +
      `<KeyCount>${entries.size}</KeyCount><MaxKeys>${max}</MaxKeys><IsTruncated>${truncated}</IsTruncated>${next}` +
      `${[...entries.values()].join('')}</ListBucketResult>`,
  )
}

function contents(key: string, { at, etag, body }: StoredObject): string {
  return (
    `<Contents><Key>${xmlText(key)}</Key><LastModified>${at.toISOString()}</LastModified><ETag>"${etag}"</ETag>` +
    `<Size>${body.length}</Size><StorageClass>STANDARD</StorageClass></Contents>`
  )
}

async function onObject(call: Call): Promise<Response> {
  const { request, query, bucket, key, objects } = call
  const id = `${bucket}/${key}`
  if (query.has('uploads') || query.has('uploadId')) return onUpload(call, id)
  if (request.method === 'PUT') {
    if (request.headers.get('if-none-match') === '*' && objects.has(id)) return refusal(412, 'PreconditionFailed')
    return stored(objects, id, await bodyOf(request), request.headers.get('content-type'))
  }
  if (request.method === 'DELETE') {
    objects.delete(id)
    return new Response(null, { status: 204 })
  }
  const object = objects.get(id)
  return object ? served(request, object) : refusal(404, 'NoSuchKey')
}

async function onUpload({ request, query, bucket, key, objects, uploads }: Call, id: string): Promise<Response> {
  if (query.has('uploads')) {
    const uploadId = crypto.randomUUID()
    uploads.set(uploadId, { type: request.headers.get('content-type') ?? '', parts: new Map() })
    return xml(
      `<InitiateMultipartUploadResult><Bucket>${bucket}</Bucket><Key>${xmlText(key)}</Key><UploadId>${uploadId}</UploadId></InitiateMultipartUploadResult>`,
    )
  }
  const uploadId = query.get('uploadId') ?? ''
  const upload = uploads.get(uploadId)
  if (!upload) return refusal(404, 'NoSuchUpload')
  if (request.method === 'DELETE') {
    uploads.delete(uploadId)
    return new Response(null, { status: 204 })
  }
  if (request.method === 'PUT') {
    const body = await bodyOf(request)
    upload.parts.set(Number(query.get('partNumber')), body)
    return new Response(null, { headers: { etag: `"${md5(body)}"` } })
  }
  await request.text()
  const parts = [...upload.parts].sort(([a], [b]) => a - b).map(([, part]) => part)
  uploads.delete(uploadId)
  stored(objects, id, Buffer.concat(parts), upload.type)
  return xml(`<CompleteMultipartUploadResult><Key>${xmlText(key)}</Key></CompleteMultipartUploadResult>`)
}

function stored(objects: MiniS3['objects'], id: string, body: Uint8Array<ArrayBuffer>, type: string | null): Response {
  const etag = md5(body)
  objects.set(id, { body, etag, type: type || 'application/octet-stream', at: new Date() })
  return new Response(null, { headers: { etag: `"${etag}"` } })
}

function served(request: Request, { body, etag, type, at }: StoredObject): Response {
  const headers = {
    etag: `"${etag}"`,
    'last-modified': at.toUTCString(),
    'content-type': type,
    'accept-ranges': 'bytes',
  }
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get('range') ?? '')
  if (request.method === 'HEAD') {
    return new Response(null, { headers: { ...headers, 'content-length': String(body.length) } })
  }
  if (!range) return new Response(body, { headers })
  const start = Number(range[1])
  const end = range[2] ? Math.min(Number(range[2]), body.length - 1) : body.length - 1
  if (start >= body.length) return refusal(416, 'InvalidRange')
  return new Response(body.slice(start, end + 1), {
    status: 206,
    headers: { ...headers, 'content-range': `bytes ${start}-${end}/${body.length}` },
  })
}

async function bodyOf(request: Request): Promise<Uint8Array<ArrayBuffer>> {
  const body = new Uint8Array(await request.arrayBuffer())
  return request.headers.get('x-amz-content-sha256')?.startsWith('STREAMING-') ? unchunked(body) : body
}

/** aws-chunked: `<hex length>;chunk-signature=…\r\n<bytes>\r\n`, ended by a chunk of length 0. */
function unchunked(body: Uint8Array): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = []
  for (let at = 0; at < body.length; ) {
    const newline = body.indexOf(10, at)
    const length = Number.parseInt(new TextDecoder().decode(body.subarray(at, newline)), 16)
    if (!(length > 0)) break
    parts.push(body.subarray(newline + 1, newline + 1 + length))
    at = newline + 1 + length + 2
  }
  return Buffer.concat(parts)
}

function refusal(status: number, code: string): Response {
  return xml(`<Error><Code>${code}</Code><Message>${code}</Message></Error>`, status)
}

function xml(body: string, status = 200): Response {
  return new Response(`<?xml version="1.0" encoding="UTF-8"?>${body}`, {
    status,
    headers: { 'content-type': 'application/xml' },
  })
}

function xmlText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

function md5(bytes: Uint8Array): string {
  return new Bun.CryptoHasher('md5').update(bytes).digest('hex')
}
