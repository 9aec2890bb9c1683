/** A stall of the event loop, as the operator sees it: in every scrape and on /readyz, whoever asked before. */
import { afterEach, expect, test } from 'bun:test'
import { watchLoop } from '../../src/app/loop-lag.ts'
import { RunningApp } from '../support/app.ts'

const apps: RunningApp[] = []
afterEach(async () => {
  for (const app of apps.splice(0)) await app.close()
})

/** Ms. */
const STALL = 300

/** Holds the event loop, and gives the histogram its turn to see that; its first turn of all only begins to count. */
async function stall(): Promise<void> {
  for (const ms of [30, STALL]) {
    const until = performance.now() + ms
    while (performance.now() < until);
    for (let turn = 0; turn < 5; turn += 1) await new Promise(resolve => setImmediate(resolve))
  }
}

test('a stall shows in the scrapes of two readers and on /readyz, in any order', async () => {
  const app = new RunningApp({ BABYCHAIN_MODE: 'sandbox' })
  apps.push(app)
  await app.start()
  const scraped = async (): Promise<number> => {
    const text = await (await app.request('/metrics')).text()
    return Number(/^nodejs_eventloop_lag_max_seconds (.*)$/m.exec(text)?.[1])
  }
  const told = async (): Promise<number> => {
    const { checks } = await app.json<{ checks: { name: string; detail?: string }[] }>('/readyz')
    return Number(/max (\d+) ms/.exec(checks.find(({ name }) => name === 'event loop')?.detail ?? '')?.[1])
  }
  await scraped()
  await stall()
  for (let reader = 0; reader < 2; reader += 1) {
    expect(await told()).toBeGreaterThanOrEqual(STALL * 0.9)
    expect(await scraped()).toBeGreaterThanOrEqual((STALL * 0.9) / 1_000)
  }
})

test('a stall is told for a minute after its window has ended, and then it is over', async () => {
  let now = 0
  const lag = watchLoop(() => now)
  await stall()
  const { maxMs } = lag()
  expect(maxMs).toBeGreaterThanOrEqual(STALL * 0.9)
  for (const at of [59_000, 60_000, 60_001, 119_000, 120_000]) {
    now = at
    expect([at, lag().maxMs]).toEqual([at, expect.closeTo(maxMs, 0)])
  }
  await stall()
  now = 120_001
  expect(lag().maxMs).not.toBe(maxMs)
})
