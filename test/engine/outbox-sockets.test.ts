/** The outbox over real sockets: receivers that hang, flood, drip, break off or show the wrong certificate; fairness; a stop. */
import { afterEach, describe, expect, test } from 'bun:test'
import { parseAllow } from '../../src/net/egress/allow.ts'
import { createEgress, type Egress } from '../../src/net/egress.ts'
import { AUTHORITY, certificates, httpServer, httpsServer, type Listening, rawServer } from '../net/servers.ts'
import { PostOffice } from '../support/post-office.ts'

let office: PostOffice
afterEach(() => office.close())

/** The guarded egress as it is, that may reach these servers; with a shorter patience than in production. */
function reaching(servers: readonly Listening[], timeoutMs = 15_000): Pick<Egress, 'post'> {
  const parsed = parseAllow(servers.map(({ port }) => `127.0.0.1:${port}`).join(','))
  if (!parsed.ok) throw new Error(parsed.problem)
  const egress = createEgress({ allow: parsed.entries })
  return { post: (url, request) => egress.post(url, { ...request, timeoutMs }) }
}

const to = ({ port }: Listening) => ({ url: `http://127.0.0.1:${port}/hook`, host: `127.0.0.1:${port}` })

async function until(what: () => boolean | Promise<boolean>, ms: number): Promise<number> {
  const started = performance.now()
  for (;;) {
    if (await what()) return performance.now() - started
    if (performance.now() - started > ms) throw new Error(`not within ${ms} ms`)
    await new Promise(resolve => setImmediate(resolve))
  }
}

const settled = async (ids: readonly string[]): Promise<boolean> => {
  const logs = await Promise.all(ids.map(id => office.store.deliveryAttempts(id)))
  return logs.every(log => log.length > 0)
}

describe('fairness', () => {
  test('a host that accepts and never answers, with 1,000 due, costs 20 healthy hosts nothing', async () => {
    const open = { now: 0, most: 0 }
    const tarpit = await rawServer(socket => {
      open.now += 1
      open.most = Math.max(open.most, open.now)
      socket.on('close', () => {
        open.now -= 1
      })
    })
    const healthy = await Promise.all(Array.from({ length: 20 }, () => httpServer((_, reply) => void reply.end('ok'))))
    office = await PostOffice.open(reaching([tarpit, ...healthy]))
    const at = office.clock.now()
    // Long overdue, so that whoever goes by age alone serves them first.
    await office.add(...Array.from({ length: 1_000 }, (_, n) => ({ ...to(tarpit), dueAt: at - 60_000 + n })))
    const wanted = await office.add(...healthy.map(server => ({ ...to(server), dueAt: at })))
    Bun.gc(true)
    const before = process.memoryUsage().rss
    office.outbox.wake()
    const ms = await until(() => settled(wanted.map(({ id }) => id)), 5_000)
    expect(ms).toBeLessThan(2_000)
    for (const { id } of wanted) expect((await office.find(id)).status).toBe('delivered')
    // And while the tarpit goes on, newcomers are served as fast.
    const more = await office.add(...healthy.map(to))
    office.outbox.wake()
    expect(await until(() => settled(more.map(({ id }) => id)), 5_000)).toBeLessThan(2_000)
    expect(open.most).toBe(4)
    expect(tarpit.connections).toBe(4)
    Bun.gc(true)
    expect(process.memoryUsage().rss - before).toBeLessThan(48 << 20)
  }, 20_000)

  test('a key with thirty such hosts takes no more than its share, and another key is served at once', async () => {
    let open = 0
    const tarpit = await rawServer(() => {
      open += 1
    })
    const healthy = await httpServer((_, reply) => void reply.end('ok'))
    office = await PostOffice.open(reaching([tarpit, healthy]))
    await office.addKey('key_b')
    const at = office.clock.now()
    const hosts = Array.from({ length: 120 }, (_, n) => ({ ...to(tarpit), host: `h${n % 30}:443`, dueAt: at - 60_000 }))
    await office.add(...hosts)
    office.outbox.wake()
    await until(() => open === 48, 5_000)
    const [wanted] = await office.add({ ...to(healthy), apiKeyId: 'key_b' })
    office.outbox.wake()
    expect(await until(() => settled([wanted!.id]), 5_000)).toBeLessThan(2_000)
    expect((await office.find(wanted!.id)).status).toBe('delivered')
    expect(open).toBe(48)
  })

  test('a receiver that drips a byte now and then is cut off in time, and holds nobody up', async () => {
    const drip = await rawServer(socket => {
      socket.write('HTTP/1.1 200 OK\r\nx-slow: ')
      const timer = setInterval(() => socket.write('y'), 50)
      socket.on('close', () => clearInterval(timer))
    })
    const healthy = await httpServer((_, reply) => void reply.end('ok'))
    office = await PostOffice.open(reaching([drip, healthy], 1_500))
    const [slow, quick] = await office.add(to(drip), to(healthy))
    office.outbox.wake()
    expect(await until(() => settled([quick!.id]), 5_000)).toBeLessThan(1_000)
    await until(() => settled([slow!.id]), 5_000)
    const stored = await office.find(slow!.id)
    expect(stored).toMatchObject({ status: 'pending', lastError: 'timeout' })
    expect(stored.log[0]?.durationMs).toBeLessThan(3_000)
    expect(stored.log[0]?.reason).toBe('breath')
  })
})

test('an endless reply is a delivery: a little of it is read, and the socket is closed', async () => {
  let written = 0
  const flood = await httpServer((_, reply) => {
    const chunk = Buffer.alloc(64 << 10, 'x')
    const more = (): void => {
      while (!reply.destroyed && written < 10 * 2 ** 30) {
        written += chunk.length
        if (!reply.write(chunk)) break
      }
    }
    reply.on('drain', more)
    more()
  })
  office = await PostOffice.open(reaching([flood]))
  const [delivery] = await office.add(to(flood))
  await office.outbox.runOnce()
  const stored = await office.find(delivery!.id)
  expect(stored.status).toBe('delivered')
  expect(stored.log[0]?.reply?.length).toBeLessThanOrEqual(4_096)
  await flood.drained()
  // What lay in the buffers of the system, not ten gigabytes.
  expect(written).toBeLessThan(32 << 20)
})

test('a receiver that acts and drops the line before it answers gets the same message again', async () => {
  const seen: string[] = []
  const server = await rawServer((socket, request) => {
    seen.push(/webhook-id: (\S+)/i.exec(request)?.[1] ?? '')
    if (seen.length === 1) socket.destroy()
    else socket.end('HTTP/1.1 204 No Content\r\n\r\n')
  })
  office = await PostOffice.open(reaching([server]))
  const [delivery] = await office.add(to(server))
  await office.outbox.runOnce()
  expect(await office.find(delivery!.id)).toMatchObject({ status: 'pending', lastError: 'connection_lost' })
  await office.store.resend(delivery!.id, office.clock.now())
  await office.outbox.runOnce()
  expect(seen).toEqual([delivery!.id, delivery!.id])
  expect((await office.find(delivery!.id)).status).toBe('delivered')
})

test('an expired certificate, one for another name and an old TLS are failures that are tried again, never accepted', async () => {
  const cases = [
    ['expired', certificates.expired],
    ['other name', certificates.otherName],
    ['TLS 1.1', { ...certificates.good, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1' }],
  ] as const
  for (const [name, options] of cases) {
    const server = await httpsServer((_, reply) => void reply.end('ok'), options as never)
    const egress = createEgress({
      allow: [],
      ca: AUTHORITY,
      resolver: async () => [{ address: '93.184.216.34', family: 4 }],
      dialAs: () => ({ address: '127.0.0.1', port: server.port }),
    })
    office = await PostOffice.open(egress)
    const [delivery] = await office.add({})
    await office.outbox.runOnce()
    expect([name, await office.find(delivery!.id)]).toMatchObject([name, { status: 'pending', lastError: 'tls_error' }])
    expect(server.requests).toBe(0)
    await office.close()
    office = await PostOffice.open()
  }
})

test('a stop cuts off what hangs, which burns no attempt, and the next process sends it at once with the same id', async () => {
  const ids: string[] = []
  let hangs = true
  const server = await rawServer((socket, request) => {
    ids.push(/webhook-id: (\S+)/i.exec(request)?.[1] ?? '')
    if (!hangs) socket.end('HTTP/1.1 204 No Content\r\n\r\n')
  })
  office = await PostOffice.open(reaching([server]))
  const [delivery] = await office.add(to(server))
  office.outbox.wake()
  await until(() => ids.length === 1, 5_000)
  await office.outbox.drain(50)
  const stored = await office.find(delivery!.id)
  expect(stored).toMatchObject({ status: 'pending', attempts: 0, lastError: 'aborted' })
  expect(stored.log).toMatchObject([{ errorClass: 'aborted', reason: 'stopped' }])
  hangs = false
  await office.restart()
  office.outbox.wake()
  await until(async () => (await office.find(delivery!.id)).status === 'delivered', 5_000)
  expect(ids).toEqual([delivery!.id, delivery!.id])
  expect((await office.find(delivery!.id)).attempts).toBe(1)
})

test('a process that dies with a message on the line: the next one sends it again at once, with the same id', async () => {
  const ids: string[] = []
  let hangs = true
  const server = await rawServer((socket, request) => {
    ids.push(/webhook-id: (\S+)/i.exec(request)?.[1] ?? '')
    if (!hangs) socket.end('HTTP/1.1 204 No Content\r\n\r\n')
  })
  office = await PostOffice.open(reaching([server]))
  const all = await office.add(...Array.from({ length: 3 }, () => to(server)))
  office.outbox.wake()
  await until(() => ids.length === 3, 5_000)
  hangs = false
  // Nothing is drained: the old one's sends never come home.
  await office.restart()
  office.outbox.wake()
  await until(async () => (await office.store.counts()).deliveries.delivered === 3, 5_000)
  for (const { id } of all) {
    expect(ids.filter(each => each === id)).toHaveLength(2)
    expect((await office.find(id)).attempts).toBe(2)
  }
})
