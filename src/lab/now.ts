/** The time, for ages, countdowns and elapsed seconds; one timer for the page, still while nobody looks. */
import { signal } from '@preact/signals'

export const now = signal(Date.now())

setInterval(() => {
  if (!document.hidden) now.value = Date.now()
}, 500)
