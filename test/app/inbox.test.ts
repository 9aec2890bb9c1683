/** The built-in receiver of the sandbox. */
import { expect, test } from 'bun:test'
import { createInbox } from '../../src/app/inbox.ts'
import { RunningApp } from '../support/app.ts'
import { API_KEY } from '../support/server.ts'

const inbox = createInbox({ baseUrl: () => 'http://127.0.0.1:3000', secretsOf: async () => [], now: () => 0 })

test('it owns the address of every key, and of nothing else', () => {
  for (const id of ['bootstrap', 'key_018f0c2e']) expect(inbox.owns(inbox.urlOf(id))).toBe(true)
  for (const name of ['', '%', '%2e%2e', 'a/b', 'a?b', 'a b'])
    expect([name, inbox.owns(`http://127.0.0.1:3000/lab/inbox/${name}`)]).toEqual([name, false])
  expect(inbox.owns('http://127.0.0.1:3001/lab/inbox/bootstrap')).toBe(false)
})

test('it takes what its own key sends, with the verdict on the signature, and is not there for another key', async () => {
  const message = (id: string) => ({ headers: { 'webhook-id': id }, body: Buffer.from('{}') })
  const sent = async (id: string, to: string, by: string) => {
    const answer = await inbox.post(inbox.urlOf(to), message(id), by)
    return answer.type === 'answered' ? answer.status : answer.type
  }
  expect(await sent('msg_1', 'ada', 'ada')).toBe(401)
  for (let i = 0; i < 60; i++) expect(await sent(`msg_2${i}`, 'ada', 'bob')).toBe(404)
  for (let i = 0; i < 300; i++) expect(await sent('msg_3', `invented_${i}`, 'bob')).toBe(404)
  expect(inbox.messagesOf('ada').map(({ id, verified }) => [id, verified])).toEqual([['msg_1', false]])
  expect([...inbox.messagesOf('bob'), ...inbox.messagesOf('invented_299')]).toEqual([])
})

test('it holds the newest fifty messages of a key', async () => {
  for (let i = 0; i < 51; i++)
    await inbox.post(inbox.urlOf('eve'), { headers: { 'webhook-id': `msg_${i}` }, body: Buffer.from('{}') }, 'eve')
  const ids = inbox.messagesOf('eve').map(({ id }) => id)
  expect([ids.length, ids[0], ids.at(-1)]).toEqual([50, 'msg_50', 'msg_1'])
})

test('a key that names the inbox of another one as its receiver finds nothing there, and leaves nothing', async () => {
  const app = await new RunningApp({ BABYCHAIN_MODE: 'sandbox' }).start()
  try {
    const ask = async (key: string, path: string, body?: object) => {
      const headers = { authorization: `Bearer ${key}` }
      return body
        ? app.post(`/api/v1/${path}`, body, headers)
        : (await app.request(`/api/v1/${path}`, { headers })).json()
    }
    const scopes = ['callbacks:manage', 'runs:read']
    const { id, key } = (await ask(API_KEY, 'keys', { name: 'shop', scopes })) as { id: string; key: string }
    const pinged = async (by: string, to: string) => {
      const url = `${app.url}/lab/inbox/${to}`
      return ((await ask(by, 'deliveries/test', { url })) as { http_status: number }).http_status
    }
    expect([await pinged(key, 'bootstrap'), await pinged(API_KEY, id), await pinged(key, 'nobody')]).toEqual([
      404, 404, 404,
    ])
    const held = async (by: string) => ((await ask(by, 'inbox')) as { data: { verified: boolean }[] }).data
    expect([await held(key), await held(API_KEY)]).toEqual([[], []])
    expect([await pinged(key, id), (await held(key)).map(({ verified }) => verified)]).toEqual([204, [true]])
  } finally {
    await app.close()
  }
})
