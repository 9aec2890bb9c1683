/** The settings of an installation, as its providers and the routes of its models have them. */
import { expect, test } from 'bun:test'
import { providersOf, routesFor } from '../../src/app/providers.ts'
import { readConfig } from '../../src/config.ts'
import { createCatalog } from '../../src/models/catalog.ts'
import { createEgress } from '../../src/net/egress.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const configOf = (env: Record<string, string>) => {
  const read = readConfig(env)
  if (!read.ok) throw new Error(read.problems.join('\n'))
  return read.config
}
const deps = {
  clock: new VirtualClock(),
  egress: createEgress({ allow: [] }),
  readPicture: async () => ({ ok: false, reason: 'no picture' }) as never,
}
const flux = createCatalog().find('bfl/flux-2-flex')
const routed = (env: Record<string, string>) =>
  flux ? routesFor(configOf({ BFL_API_KEY: 'a-key', ...env }))(flux).map(route => route.provider) : []

test('routes stand in the order of the catalogue, but for the providers that the operator prefers: those first', () => {
  const usual = routed({})
  expect(usual.slice(0, 3)).toEqual(['bfl', 'fal', 'replicate'])
  expect(routed({ BABYCHAIN_PROVIDER_ORDER: 'replicate,fal' })).toEqual([
    ...['replicate', 'fal'],
    ...usual.filter(id => id !== 'replicate' && id !== 'fal'),
  ])
  expect(routed({ BABYCHAIN_PROVIDER_ORDER: 'openai' })).toEqual(usual)
  expect(routed({ BABYCHAIN_MODE: 'sandbox', BABYCHAIN_PROVIDER_ORDER: 'replicate' })).toEqual(['sandbox'])
})

test('a provider takes as many jobs at once as the operator says, and else as many as it documents', () => {
  const jobsOf = (env: Record<string, string>) => {
    const made = providersOf(configOf(env), deps)
    made.close()
    return Object.fromEntries(made.providers.map(each => [each.id, each.concurrency]))
  }
  const usual = jobsOf({ BFL_API_KEY: 'a-key' })
  expect(jobsOf({ BFL_API_KEY: 'a-key', BABYCHAIN_CONCURRENCY: 'bfl=3,fal=7' })).toEqual({ ...usual, bfl: 3, fal: 7 })
  const alone = jobsOf({ BABYCHAIN_CONCURRENCY: 'sandbox=2' })
  expect(alone).toEqual({ sandbox: 2 })
  expect(jobsOf({}).sandbox).toBeGreaterThan(2)
})
