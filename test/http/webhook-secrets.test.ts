/** How long the one before stays good after a rotation, and who else may decide on it. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { overlay } from '../../src/app/tracing/overlay.ts'
import { HttpWorld } from '../support/http-world.ts'

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

const DAY_MS = 86_400_000
const at = (ms: number) => new Date(world.clock.now() + ms).toISOString().replace('Z', '+00:00')

test('a rotation that says nothing leaves the one before a day, be its body absent, empty or without the field', async () => {
  for (const asked of [{}, { body: '', headers: { 'content-length': '0' } }, { body: {} }]) {
    await world.ask('POST', '/api/v1/webhook_secrets/rotate', { body: { overlap_seconds: 0 } })
    expect((await world.ask('POST', '/api/v1/webhook_secrets/rotate', asked)).status).toBe(200)
    const { data } = await world.json<{ data: { retires_at: string | null }[] }>('GET', '/api/v1/webhook_secrets')
    expect(data.map(each => each.retires_at)).toEqual([null, at(DAY_MS)])
    const { id } = await world.json<{ id: string }>('POST', '/api/v1/keys', { body: { name: 'shop' } })
    const rotated = await world.json('POST', `/api/v1/keys/${id}/rotate`, asked)
    expect(rotated.previous_expires_at).toBe(at(DAY_MS))
  }
})

test('a rotation may leave the one before a week, and no second more', async () => {
  const rotate = (overlap_seconds: number) =>
    world.ask('POST', '/api/v1/webhook_secrets/rotate', { body: { overlap_seconds } })
  await rotate(0)
  expect([(await rotate(604_801)).status, (await rotate(604_800)).status]).toEqual([400, 200])
  const { data } = await world.json<{ data: { retires_at: string | null }[] }>('GET', '/api/v1/webhook_secrets')
  expect(data[1]?.retires_at).toBe(at(7 * DAY_MS))
})

test('the secret of the environment is 409, with the sentence of who decides on it', async () => {
  const locked = { locked: 'The secret comes from BABYCHAIN_CALLBACK_SECRET: change it there and restart.' }
  const other = await HttpWorld.open(deps => ({
    ...deps,
    secrets: overlay(deps.secrets, { rotate: async () => locked }),
  }))
  const refused = await other.ask('POST', '/api/v1/webhook_secrets/rotate')
  expect([refused.status, await refused.json()]).toMatchObject([409, { code: 'conflict', detail: locked.locked }])
  await other.close()
})
