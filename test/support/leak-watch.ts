/**
 * Loaded before every test file (bunfig.toml): the test in which a provider key turned up where none belongs fails, and so
 * does the suite when one turns up after its last test.
 */
import { afterAll, afterEach } from 'bun:test'
import { countUnsearched, takeLeaks } from './secrets.ts'

function nothingLeaked(): void {
  const leaks = takeLeaks()
  if (leaks.length === 0) return
  const lines = new Set(leaks.map(({ where, as }) => `  ${where}, ${as}`))
  throw new Error(`a secret is where it does not belong:\n${[...lines].join('\n')}`)
}

afterEach(nothingLeaked)
afterAll(() => {
  nothingLeaked()
  if (countUnsearched() > 0)
    throw new Error(`${countUnsearched()} applications were not closed, so nobody searched them`)
})
