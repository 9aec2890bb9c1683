/** The document and its page. `UPDATE_SNAPSHOT=1 bun test test/http/openapi.test.ts` and then `npx biome check --write test/http` write the snapshot anew. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { join } from 'node:path'
import { ERRORS } from '../../src/core/errors.ts'
import * as catalogDocs from '../../src/http/openapi/catalog.ts'
import * as deliveryDocs from '../../src/http/openapi/deliveries.ts'
import * as keyDocs from '../../src/http/openapi/keys.ts'
import * as runDocs from '../../src/http/openapi/runs.ts'
import ended from '../fixtures/seed.ended.json'
import seed from '../fixtures/seed.request.json'
import { Conformity } from '../support/http-conform.ts'
import { HttpWorld } from '../support/http-world.ts'

const SNAPSHOT = join(import.meta.dir, 'openapi.snapshot.json')

interface Document {
  openapi: string
  paths: Record<string, Record<string, Operation>>
  webhooks: { runEnded: { post: { requestBody: { content: Record<string, { example: unknown; schema: object }> } } } }
  components: { responses: Record<string, { content: object }>; schemas: Record<string, object> }
}
interface Operation {
  operationId: string
  summary: string
  security?: object[]
  parameters?: { name: string; in: string; description: string }[]
  requestBody?: { content: Record<string, { example?: unknown }> }
  responses: Record<string, { $ref?: string; content?: Record<string, { example?: unknown }> }>
}

let world: HttpWorld
let document: Document
beforeAll(async () => {
  world = await HttpWorld.open()
  document = (await (await world.ask('GET', '/swagger/json', { key: null })).json()) as Document
})
afterAll(() => world.close())

const operations = (): [string, string, Operation][] =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): [string, string, Operation] => [method, path, operation]),
  )

test('the document is the one of the snapshot', async () => {
  const text = `${JSON.stringify(document, null, 2)}\n`
  if (process.env.UPDATE_SNAPSHOT) await Bun.write(SNAPSHOT, text)
  expect(document).toEqual(JSON.parse(await Bun.file(SNAPSHOT).text()) as Document)
})

test('the document is frozen, and requests do not change it', async () => {
  const id = await world.run(seed)
  await world.runToEnd(id)
  await world.ask('POST', '/api/v1/chains/chain1/runs', { body: {} })
  expect(await (await world.ask('GET', '/swagger/json')).json()).toEqual(document as never)
  expect(Object.isFrozen(world.api.openapi.paths['/api/v1/runs'])).toBe(true)
})

describe('the document', () => {
  test('describes every public route of the API', () => {
    expect(
      operations()
        .map(([method, path]) => `${method} ${path}`)
        .toSorted(),
    ).toEqual(
      [
        'post /api/v1/chains/{slug}/runs',
        'post /api/v1/chains/{slug}/estimate',
        'get /api/v1/chains',
        'get /api/v1/chains/get/{runId}',
        'get /api/v1/runs',
        'get /api/v1/runs/{runId}',
        'get /api/v1/runs/{runId}/events',
        'post /api/v1/runs/{runId}/cancel',
        'post /api/v1/runs/{runId}/resume',
        'get /api/v1/models',
        'get /api/v1/models/{maker}/{name}',
        'post /api/v1/media',
        'get /api/v1/media/{mediaId}',
        'get /api/v1/deliveries',
        'get /api/v1/deliveries/{deliveryId}',
        'post /api/v1/deliveries/{deliveryId}/resend',
        'post /api/v1/deliveries/recover',
        'post /api/v1/deliveries/test',
        'get /api/v1/webhook_secrets',
        'post /api/v1/webhook_secrets/rotate',
        'post /api/v1/keys',
        'get /api/v1/keys',
        'get /api/v1/keys/{keyId}',
        'patch /api/v1/keys/{keyId}',
        'post /api/v1/keys/{keyId}/rotate',
        'post /api/v1/keys/{keyId}/revoke',
        'post /api/v1/inbound/{provider}/{token}',
        'get /healthz',
        'get /readyz',
        'get /metrics',
      ].toSorted(),
    )
  })

  test('names every operation once, with a summary, its parameters and its security', () => {
    const ids = operations().map(([, , operation]) => operation.operationId)
    expect(new Set(ids).size).toBe(ids.length)
    for (const [method, path, operation] of operations()) {
      expect([method, path, operation.summary?.length > 5]).toEqual([method, path, true])
      expect(operation.security).toBeDefined()
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(match => match[1])
      const given = (operation.parameters ?? []).filter(parameter => parameter.in === 'path').map(each => each.name)
      expect([path, given]).toEqual([path, inPath as string[]])
      for (const parameter of operation.parameters ?? []) expect(parameter.description).not.toBe('')
    }
  })

  test('serves every parameter that an operation declares, as it is declared', () => {
    const declared = [runDocs, catalogDocs, deliveryDocs, keyDocs]
      .flatMap(docs => Object.values<object>(docs))
      .filter((each): each is Operation => 'operationId' in each)
    const served = new Map(operations().map(([, , operation]) => [operation.operationId, operation.parameters ?? []]))
    expect(declared.map(each => each.operationId).toSorted()).toEqual([...served.keys()].toSorted())
    for (const { operationId, parameters = [] } of declared) {
      expect([operationId, served.get(operationId)]).toEqual([operationId, parameters])
    }
    const named = (id: string) => served.get(id)?.map(parameter => parameter.name)
    expect(named('createRun')).toEqual(['slug', 'Idempotency-Key', 'Prefer'])
    expect(named('getRun')).toEqual(['runId', 'wait', 'If-None-Match'])
    expect(named('streamRunEvents')).toEqual(['runId', 'after', 'Last-Event-ID'])
    expect(named('getMedia')).toEqual(['mediaId', 'expires', 'signature', 'Range', 'If-None-Match'])
  })

  test('answers every refusal as problem+json', () => {
    for (const [, path, { responses }] of operations()) {
      for (const [status, response] of Object.entries(responses)) {
        if (Number(status) >= 400) expect([path, response.$ref]).toEqual([path, `#/components/responses/${status}`])
      }
    }
    for (const response of Object.values(document.components.responses)) {
      expect(Object.keys(response.content)).toEqual(['application/problem+json'])
    }
    const statuses = new Set(Object.values(ERRORS).map(row => String(row.status)))
    for (const status of Object.keys(document.components.responses)) expect([...statuses, '416']).toContain(status)
  })

  test('lists what every operation may answer, and what every operation with a key may', () => {
    for (const [, path, { responses, security }] of operations()) {
      const common = security?.length ? ['400', '401', '403', '429'] : ['400']
      expect([path, ...Object.keys(responses)]).toEqual(expect.arrayContaining([path, ...common]))
    }
  })

  test('has no reference that leads nowhere', () => {
    for (const [, ref] of JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)) {
      const target = (ref ?? '')
        .split('/')
        .reduce<unknown>((at, part) => (at as Record<string, unknown>)?.[part], document)
      expect([ref, typeof target]).toEqual([ref, 'object'])
    }
  })

  test('shows the request of the seed, and answers with the seed’s keys that fit their schema', () => {
    const create = document.paths['/api/v1/chains/{slug}/runs']?.post
    expect(create?.requestBody?.content['application/json']?.example).toEqual(seed)
    const shown = document.paths['/api/v1/runs/{runId}']?.get?.responses['200']?.content?.['application/json']?.example
    expect(shown).toMatchObject(ended)
    const conformity = new Conformity(world.api)
    conformity.shape('ChainRun', shown)
    conformity.shape('ChainRun', create?.responses['202']?.content?.['application/json']?.example)
  })

  test('describes the callback under webhooks, with an example that fits', () => {
    const content = document.webhooks.runEnded.post.requestBody.content['application/json']
    const example = content?.example as { data: { backend_metadata: object } } | undefined
    const { backend_metadata, ...run } = example?.data ?? {}
    const conformity = new Conformity(world.api)
    conformity.shape('ChainRun', run)
    conformity.shape('BackendMetadata', backend_metadata)
  })
})

describe('the Swagger page', () => {
  test('loads nothing from elsewhere, and runs no inline code', async () => {
    const response = await world.ask('GET', '/swagger', { key: null })
    const html = await response.text()
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(html).not.toMatch(/https?:|\/\/[a-z]/)
    expect(html).not.toMatch(/<script>|onload=/)
    expect(response.headers.get('content-security-policy')).toContain("script-src 'self'")
    for (const [, path] of html.matchAll(/(?:src|href)="(\/[^"]+)"/g)) {
      const asset = await world.ask('GET', path ?? '', { key: null })
      const bytes = await asset.bytes()
      expect([path, asset.status, bytes.length > 100]).toEqual([path, 200, true])
      expect(asset.headers.get('content-type')).toMatch(/^text\/(javascript|css); charset=utf-8$/)
    }
    const start = await (await world.ask('GET', '/swagger/start.js', { key: null })).text()
    expect(start).toContain("url: '/swagger/json'")
    expect(start).toContain('validatorUrl: null')
  })

  test('is not sent again when the document is known', async () => {
    const etag = (await world.ask('GET', '/swagger/json')).headers.get('etag') ?? ''
    expect((await world.ask('GET', '/swagger/json', { headers: { 'if-none-match': etag } })).status).toBe(304)
  })
})
