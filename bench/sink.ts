/**
 * The receiver of callbacks: counts them by the number in the address, and tells who waits. It verifies nothing, so that
 * it takes as little as possible of the cores that it shares.
 *
 *   bun bench/sink.ts      prints { url }
 */

const arrivedAt = new Map<number, number>()
const waiting = new Map<number, ((at: number) => void)[]>()
let received = 0
let lastAt = 0

const server = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  idleTimeout: 255,
  routes: {
    '/hook/:n': async request => {
      await request.arrayBuffer()
      take(Number(request.params.n))
      return new Response('ok')
    },
    /** Answers with the time at which a callback came. */
    '/wait/:n': async request => {
      const n = Number(request.params.n)
      const at =
        arrivedAt.get(n) ?? (await new Promise<number>(tell => waiting.set(n, [...(waiting.get(n) ?? []), tell])))
      return Response.json(at)
    },
    '/stats': () => Response.json({ received, distinct: arrivedAt.size, lastAt }),
    /** Times of arrival from a number on. */
    '/times/:from': request => {
      const from = Number(request.params.from)
      return Response.json([...arrivedAt].filter(([n]) => n >= from))
    },
    '/reset': () => {
      arrivedAt.clear()
      received = lastAt = 0
      return new Response()
    },
  },
})

function take(n: number): void {
  received += 1
  if (arrivedAt.has(n)) return
  lastAt = performance.timeOrigin + performance.now()
  arrivedAt.set(n, lastAt)
  for (const tell of waiting.get(n) ?? []) tell(lastAt)
  waiting.delete(n)
}

console.log(JSON.stringify({ url: server.url.origin }))
