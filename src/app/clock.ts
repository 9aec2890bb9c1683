/**
 * The clock of this process: time, timers, chance and ids.
 *
 * What the engine stores and waits for are times, what it means by them are spans; a wall clock that is set while it runs
 * would make the spans wrong. So `now` is a time of our own:
 *
 * 1. It never goes back, neither in a process nor from one to the next (`notBefore`). A wall clock that is set back is
 *    waited for: until it has caught up, ours goes a tenth slower, so every wait takes at most a ninth longer.
 * 2. It follows the wall clock ahead, at once. `soundSince` says since when it has gone on without such a leap: what
 *    seems to have waited for longer than that may not have.
 * 3. Timers run on the steady clock of the machine. One that was armed before a leap keeps its span.
 * 4. `wall` is the wall clock as it stands, for what others compare with theirs: signatures, expiries, times of files.
 */
import { randomBytes } from 'node:crypto'
import type { Clock } from '../core/ports.ts'

export interface SystemClock extends Clock {
  /** Ms since the epoch, as the machine says. */
  wall(): number
  /** Since when (on `now`) time has gone on without a leap: the start of this process, or the last leap. */
  soundSince(): number
  /** Somebody has stored this time: ours is not before it. Called at the start. */
  notBefore(at: number): void
}

/** What a clock is made of. All of it comes as data in tests. */
export interface Machine {
  /** Ms since the epoch; may be set at any time. */
  wall(): number
  /** Ms since some moment; never set. */
  steady(): number
  /** Calls back once after so many ms of steady time; gives a way to forget it. */
  after(ms: number, call: () => void): () => void
}

/** From here on a difference (ms) is a jump, not the rounding and steering of clocks. */
const JUMP_MS = 1_000
/** How fast our time goes while the wall clock is behind it. */
const PACE_WHEN_AHEAD = 0.9
/** setTimeout holds at most this (ms); a longer wait is taken in parts. */
const LONGEST_TIMER_MS = 2_000_000_000

/** `jumped` is told by how much (ms) the wall clock was set, or for how long this machine slept. */
export function createClock(machine: Machine = THIS_MACHINE, jumped: (byMs: number) => void = () => {}): SystemClock {
  let wall = machine.wall()
  let steady = machine.steady()
  let own = wall
  let sound = wall

  const now = (): number => {
    const seenWall = machine.wall()
    const seenSteady = machine.steady()
    const passed = Math.max(0, seenSteady - steady)
    const set = seenWall - wall - passed
    own += own - wall < 1 ? passed : passed * PACE_WHEN_AHEAD
    wall = seenWall
    steady = seenSteady
    if (wall - own >= JUMP_MS) sound = wall
    own = Math.max(own, wall)
    if (Math.abs(set) >= JUMP_MS) jumped(Math.round(set))
    return Math.floor(own)
  }

  const at = (time: number, call: () => void): (() => void) => {
    let forget = (): void => {}
    const arm = (left: number): void => {
      forget = machine.after(Math.min(LONGEST_TIMER_MS, Math.max(0, left)), () => {
        const rest = time - now()
        if (rest > 0) arm(rest)
        else call()
      })
    }
    arm(time - now())
    return () => forget()
  }

  return {
    now,
    at,
    wall: machine.wall,
    soundSince() {
      now()
      return Math.floor(sound)
    },
    notBefore(time) {
      if (time <= now()) return
      own = time
      sound = time
    },
    random: () => Math.random(),
    id: () => Bun.randomUUIDv7(),
    token: () => randomBytes(16).toString('base64url'),
  }
}

/** One time for everything: a clock that nobody sets, as tests have it. */
export function calm(clock: Clock): SystemClock {
  return {
    now: () => clock.now(),
    at: (time, call) => clock.at(time, call),
    random: () => clock.random(),
    id: () => clock.id(),
    token: () => clock.token(),
    wall: () => clock.now(),
    soundSince: () => Number.NEGATIVE_INFINITY,
    notBefore: () => {},
  }
}

const THIS_MACHINE: Machine = {
  wall: () => Date.now(),
  steady: () => performance.now(),
  after(ms, call) {
    const timer = setTimeout(call, ms)
    return () => clearTimeout(timer)
  },
}
