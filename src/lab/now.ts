/**
 * The time, for countdowns and elapsed seconds, and a slow one for ages in long lists: a list of thousands must not be drawn
 * anew for a second more. Both stand still while nobody looks.
 */
import { signal } from '@preact/signals'

export const now = signal(Date.now())

export const slowNow = signal(Date.now())

const SLOW_MS = 10_000

setInterval(() => {
  if (document.hidden) return
  now.value = Date.now()
  if (now.value - slowNow.value >= SLOW_MS) slowNow.value = now.value
}, 500)
