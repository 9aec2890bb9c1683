/** The built-in receiver of the sandbox. */
import { expect, test } from 'bun:test'
import { createInbox } from '../../src/app/inbox.ts'

const inbox = createInbox({ baseUrl: () => 'http://127.0.0.1:3000', secretsOf: async () => [], now: () => 0 })

test('it owns the address of every key, and of nothing else', () => {
  for (const id of ['bootstrap', 'key_018f0c2e']) expect(inbox.owns(inbox.urlOf(id))).toBe(true)
  for (const name of ['', '%', '%2e%2e', 'a/b', 'a?b', 'a b'])
    expect([name, inbox.owns(`http://127.0.0.1:3000/lab/inbox/${name}`)]).toEqual([name, false])
  expect(inbox.owns('http://127.0.0.1:3001/lab/inbox/bootstrap')).toBe(false)
})
