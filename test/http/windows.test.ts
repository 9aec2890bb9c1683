/** The windows in which a key's requests and bytes are counted. */
import { expect, test } from 'bun:test'
import { createWindows } from '../../src/http/windows.ts'

test('a window is one until it ends, and every key has its own', () => {
  const windowOf = createWindows(1_000)
  const [ada, bob] = [windowOf('ada', 0), windowOf('bob', 500)]
  expect([windowOf('ada', 999) === ada, windowOf('bob', 1_499) === bob]).toEqual([true, true])
  expect(windowOf('ada', 1_000)).toEqual({ endsAt: 2_000, used: 0 })
})

test('a thousand windows that have ended are held in memory, and no more; those that have not are kept', () => {
  const windowOf = createWindows(1_000)
  const open = Array.from({ length: 1_001 }, (_, n) => windowOf(`key ${n}`, n === 0 ? 500 : 0))
  // A question of an earlier time shows what is still held.
  const held = () => open.filter((window, n) => windowOf(`key ${n}`, 600) === window).length
  expect(held()).toBe(1_001)
  windowOf('next', 1_000)
  expect(held()).toBe(1)
})
