/** The real clock: wall time, timers, chance and ids of this process. */
import { randomBytes } from 'node:crypto'
import type { Clock } from '../core/ports.ts'

/** setTimeout holds at most this (ms); a longer wait is taken in parts. */
const LONGEST_TIMER_MS = 2_000_000_000

export const systemClock: Clock = {
  now: () => Date.now(),
  at: callAt,
  random: () => Math.random(),
  id: () => Bun.randomUUIDv7(),
  token: () => randomBytes(16).toString('base64url'),
}

function callAt(at: number, call: () => void): () => void {
  let timer: ReturnType<typeof setTimeout>
  const arm = (): void => {
    const left = at - Date.now()
    timer = left > LONGEST_TIMER_MS ? setTimeout(arm, LONGEST_TIMER_MS) : setTimeout(call, Math.max(0, left))
  }
  arm()
  return () => clearTimeout(timer)
}
