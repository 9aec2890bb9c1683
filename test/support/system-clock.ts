/** The real clock of this machine. */
import { createClock, type SystemClock } from '../../src/app/clock.ts'

export const systemClock: SystemClock = createClock()
