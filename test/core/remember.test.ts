import { expect, test } from 'bun:test'
import { remember } from '../../src/core/remember.ts'

test('what is remembered again is the newest, and beyond the limit the oldest is forgotten', () => {
  const map = new Map<string, number>()
  for (const [key, value] of [
    ['a', 1],
    ['b', 2],
    ['c', 3],
  ] as const)
    remember(map, key, value, 3)
  remember(map, 'a', 4, 3)
  expect([...map]).toEqual([
    ['b', 2],
    ['c', 3],
    ['a', 4],
  ])
  remember(map, 'd', 5, 3)
  expect([...map]).toEqual([
    ['c', 3],
    ['a', 4],
    ['d', 5],
  ])
  // An empty key is a key.
  for (const key of ['', 'x', 'y', 'z']) remember(map, key, 0, 3)
  expect([...map.keys()]).toEqual(['x', 'y', 'z'])
})
