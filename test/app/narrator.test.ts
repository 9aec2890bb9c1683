/** What the log says of faults: one line for each, but not one for each run and retry while storage refuses writes. */
import { expect, test } from 'bun:test'
import pino from 'pino'
import { narrated } from '../../src/app/narrator.ts'
import { StorageUnavailable } from '../../src/core/ports.ts'
import { createMetrics } from '../../src/http/metrics.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

function narrator() {
  const lines: { msg: string; where?: string; refused?: number; refused_ms?: number; err?: { message: string } }[] = []
  const clock = new VirtualClock()
  const log = pino({ level: 'info' }, { write: line => void lines.push(JSON.parse(line)) })
  const metrics = createMetrics()
  const full = new StorageUnavailable('the disk is full')
  const { fault } = narrated(metrics.observer, log, clock)
  const pass = (ms: number): void => {
    const end = clock.now() + ms
    while ((clock.nextAt ?? end + 1) <= end) clock.step()
    clock.advance(end - clock.now())
  }
  return { lines, pass, metrics, fault, full }
}

test('three hundred runs that a full disk refuses for three minutes are five lines, and all are counted', async () => {
  const { lines, pass, metrics, fault, full } = narrator()
  for (let second = 0; second <= 180; second += 5) {
    for (let run = 0; run < 300; run += 1) fault('commit', full, { runId: `r${run}` })
    pass(5_000)
  }
  pass(60_000)
  expect(lines.map(({ msg, refused }) => [msg, refused])).toEqual([
    ['storage refuses writes', undefined],
    ['storage still refuses writes', expect.any(Number)],
    ['storage still refuses writes', expect.any(Number)],
    ['storage still refuses writes', expect.any(Number)],
    ['storage takes writes again', 37 * 300],
  ])
  expect(lines[0]).toMatchObject({ where: 'commit', runId: 'r0', err: { message: 'the disk is full' } })
  expect(lines.at(-1)).toMatchObject({ refused_ms: 180_000 })
  expect(await metrics.text()).toContain('babychain_faults_total{where="commit"} 11100')
})

test('storage that refuses again later is told again, and places are told apart', () => {
  const { lines, pass, fault, full } = narrator()
  fault('commit', full)
  fault('keep', full)
  pass(60_000)
  fault('commit', full)
  expect(lines.map(({ msg, where }) => `${where}: ${msg}`)).toEqual([
    'commit: storage refuses writes',
    'keep: storage refuses writes',
    'commit: storage takes writes again',
    'keep: storage takes writes again',
    'commit: storage refuses writes',
  ])
})

test('any other fault is a line of its own', () => {
  const { lines, fault } = narrator()
  for (let n = 0; n < 3; n += 1) fault('commit', new Error('a bug'))
  expect(lines.map(({ msg, err }) => [msg, err?.message])).toEqual(Array(3).fill(['fault', 'a bug']))
})
