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
  const observer = narrated(metrics.observer, log, clock)
  const pass = (ms: number): void => {
    const end = clock.now() + ms
    while ((clock.nextAt ?? end + 1) <= end) clock.step()
    clock.advance(end - clock.now())
  }
  return { lines, pass, metrics, observer, fault: observer.fault, full }
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
  expect(lines[0]).toMatchObject({ where: 'commit', run_id: 'r0', err: { message: 'the disk is full' } })
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

test('an attempt that went wrong names its run, step and number, and a run what it failed of', () => {
  const { lines, observer } = narrator()
  const of = { runId: 'r1', stepId: 's1', stepKey: 'text_to_image', model: 'bfl/flux-2-flex', provider: 'bfl', ms: 12 }
  observer.attemptEnded({ ...of, attempt: 1, outcome: 'failed', code: 'provider_overloaded' })
  observer.attemptEnded({ ...of, attempt: 2, outcome: 'succeeded', code: null })
  observer.runEnded({ runId: 'r1', slug: 'chain101', status: 'failed', code: 'content_refused', ms: 40 })
  expect(lines).toMatchObject([
    { msg: 'attempt ended', run_id: 'r1', step_id: 's1', attempt: 1, outcome: 'failed', code: 'provider_overloaded' },
    { msg: 'run ended', run_id: 'r1', status: 'failed', code: 'content_refused' },
  ])
})
