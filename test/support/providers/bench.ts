/**
 * A provider adapter on a bench: its stand-in, real HTTP, a clock that the test moves, and a trap that tells whether
 * anything secret was carried where it does not belong.
 */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { JsonObject } from '../../../src/core/json.ts'
import type { Role } from '../../../src/core/model.ts'
import type { InboundRequest, Provider, StartJob } from '../../../src/core/ports.ts'
import type { AllowEntry } from '../../../src/net/egress/allow.ts'
import { parseAllow } from '../../../src/net/egress/allow.ts'
import { createEgress } from '../../../src/net/egress.ts'
import { createProviderHttp, type OriginRule, trustOrigins } from '../../../src/net/provider-http.ts'
import type { ProtocolOptions } from '../../../src/providers/wire.ts'
import { saw } from '../secrets.ts'
import type { Hook, StandIn, StandInOptions } from './stand-in.ts'

export interface Clock {
  now(): number
  advance(ms: number): void
  /** Calls back when the clock has moved so far; gives a way to forget it. */
  after(ms: number, call: () => void): () => void
}

function testClock(start = Date.parse('2026-11-22T10:00:00Z')): Clock {
  let at = start
  let due: { at: number; call: () => void }[] = []
  return {
    now: () => at,
    advance(ms) {
      at += ms
      const ripe = due.filter(each => each.at <= at)
      due = due.filter(each => each.at > at)
      for (const { call } of ripe) call()
    },
    after(ms, call) {
      const entry = { at: at + ms, call }
      due.push(entry)
      return () => {
        due = due.filter(each => each !== entry)
      }
    },
  }
}

/** What a bench is made of. `S` is the stand-in's class. */
export interface BenchSpec<S extends StandIn> {
  standIn: (options: StandInOptions) => S
  provider: (options: ProtocolOptions) => Provider
  /** Where calls may go; by default the stand-in's origin. */
  origins?: (baseUrl: string) => OriginRule
  /** A submit that the stand-in takes. */
  order: { providerModel: string; role: Role; body: JsonObject }
}

export interface Bench<S extends StandIn> {
  clock: Clock
  standIn: S
  provider: Provider
  /** What was stashed, by its `stash:` url. */
  stashed: Map<string, Uint8Array>
  trap: Trap
  /** Another process with the same key: nothing remembered. */
  another(): Provider
  job(more?: Partial<StartJob>): StartJob
  signal: AbortSignal
  stop(): Promise<void>
}

export const LATENCY_MS = 3_000

export async function openBench<S extends StandIn>(spec: BenchSpec<S>): Promise<Bench<S>> {
  const clock = testClock()
  // Webhooks are taken from `hooksDue`: nobody listens here.
  const hooks = () => []
  const standIn = await spec.standIn({ latencyMs: LATENCY_MS, now: clock.now, after: clock.after, hooks }).start()
  const trap = await openTrap()
  const http = createProviderHttp({
    providers: { [standIn.provider]: spec.origins?.(standIn.baseUrl) ?? trustOrigins(standIn.baseUrl) },
    after: clock.after,
  })
  const allow = allowing(standIn.filesUrl, trap.url)
  const options: ProtocolOptions = {
    key: standIn.key,
    baseUrl: standIn.baseUrl,
    http,
    egress: createEgress({ allow }),
    allow,
    now: clock.now,
  }
  const stashed: Bench<S>['stashed'] = new Map()
  let made = 0
  return {
    clock,
    standIn,
    provider: spec.provider(options),
    stashed,
    trap,
    another: () => spec.provider(options),
    signal: new AbortController().signal,
    job(more = {}) {
      // Of the form that a clock's tokens have: 128 bits in base64url.
      const token = `token${String(made++).padStart(16, '0')}A`
      return {
        runId: 'run',
        stepId: 'step',
        token,
        jobsBefore: 0,
        callbackUrl: null,
        ...spec.order,
        async stash(bytes) {
          const url = `stash:${token}/${stashed.size}`
          stashed.set(url, bytes)
          return url
        },
        sending: async () => {},
        ...more,
      }
    },
    async stop() {
      await standIn.stop()
      trap.stop()
    },
  }
}

function allowing(...origins: readonly string[]): readonly AllowEntry[] {
  const parsed = parseAllow(origins.map(origin => new URL(origin).host).join(','))
  if (!parsed.ok) throw new Error(parsed.problem)
  return parsed.entries
}

/** An origin to which nothing should ever come. */
export interface Trap {
  url: string
  /** The headers of every call that came all the same. */
  caught: Record<string, string>[]
  stop(): void
}

/** The path at which the trap sends its callers round in circles. */
export const ROUND = '/round'

export async function openTrap(): Promise<Trap> {
  const caught: Record<string, string>[] = []
  const server: Server = createServer((request, response) => {
    saw("a host that is nobody's", `${request.url} ${JSON.stringify(request.headers)}`)
    request.on('data', (chunk: Uint8Array) => saw("a host that is nobody's", chunk))
    caught.push(request.headers as Record<string, string>)
    if (request.url === ROUND) response.writeHead(302, { location: ROUND }).end()
    else response.writeHead(200, { 'content-type': 'application/json' }).end('{"id":"trapped","status":"Ready"}')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const stop = () => {
    server.close()
    server.closeAllConnections()
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, caught, stop }
}

/** A webhook as the inbound route hands it to the adapter. */
export function inbound(hook: Hook, at: number): InboundRequest {
  const query = Object.fromEntries(new URL(hook.url).searchParams)
  return { headers: hook.headers, query, body: Buffer.from(hook.body), at }
}

/** A stream as bytes. */
export async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return new Uint8Array(await new Response(stream).arrayBuffer())
}
