/**
 * A breaker per callback host and API key: where a key's callbacks keep failing they are left alone for a while, and burn no
 * attempts meanwhile. Those of other keys go on: on a host that many share, one path that hangs says nothing about theirs.
 *
 * 1. Opens at 5 time-outs in a row within 5 minutes, or at 70 % failures of at least 10 attempts since the first
 *    failure of the last 5 minutes.
 * 2. Closed for 60 s, doubling to 30 minutes; then one probe decides.
 * 3. What says nothing about the host (our own network, our own stop, what was on its way when it closed, what failed that
 *    had begun before somebody said that it works again) changes nothing.
 * 4. A closure outlives the process: who learns of it stores it, and the next process takes it up.
 */
import type { ClosedHost, HostChange } from '../core/delivery.ts'

interface Host {
  recent: { at: number; errorClass: string | null }[]
  closedUntil: number
  /** When somebody last said that it works again. */
  invitedAt: number
  pauseMs: number
  probing: boolean
}

const WINDOW_MS = 5 * 60_000
const FIRST_PAUSE_MS = 60_000
const LONGEST_PAUSE_MS = 30 * 60_000
const MIN_ATTEMPTS = 10
const FAILED_SHARE = 0.7
/** Attempts remembered per host. */
const REMEMBERED = 99
const TIMEOUTS = 5
const isTimeout = (errorClass: string | null) => errorClass === 'timeout' || errorClass === 'connect_timeout'
/** What went wrong before a byte left us, or because we stopped. */
const OURS: ReadonlySet<string> = new Set(['egress_down', 'aborted', 'internal'])
/** Above this many failing hosts the old ones are forgotten, a few with each failure: more than there can be new ones. */
const MOST_HOSTS = 1_000
const LOOKED_THROUGH = 2

export class HostBreakers {
  #hosts = new Map<string, Host>()

  /** What an earlier process had learned, whose clock may have been ahead of ours. */
  restore(hosts: readonly ClosedHost[], at: number): void {
    for (const { receiver, pauseMs, ...stored } of hosts) {
      const closedUntil = Math.min(stored.closedUntil, at + LONGEST_PAUSE_MS)
      this.#hosts.set(receiver, { recent: [], closedUntil, invitedAt: 0, pauseMs, probing: false })
    }
  }

  /** Until when it is left alone; 0 when it is not. A pause that is over lasts until an attempt has decided. */
  closedUntil(name: string): number {
    return this.#hosts.get(name)?.closedUntil ?? 0
  }

  /** Whether the host may not be tried at `at`. */
  isClosed(name: string, at: number): boolean {
    const host = this.#hosts.get(name)
    return host !== undefined && (host.closedUntil > at || host.probing)
  }

  /** Whether its pause is over: one attempt decides. */
  awaitsProbe(name: string, at: number): boolean {
    const host = this.#hosts.get(name)
    return host !== undefined && host.closedUntil > 0 && host.closedUntil <= at && !host.probing
  }

  /** An attempt begins; after a pause it is the probe. */
  begin(name: string, at: number): void {
    const host = this.#hosts.get(name)
    if (host && this.awaitsProbe(name, at)) host.probing = true
  }

  /** Somebody who should know says that the host may be tried again: the next attempt is the probe. */
  invite(name: string, at: number): void {
    const host = this.#hosts.get(name)
    if (host) Object.assign(host, { closedUntil: Math.min(host.closedUntil, at), invitedAt: at, probing: false })
  }

  /** An attempt ended without a word about the host. */
  forget(name: string): void {
    const host = this.#hosts.get(name)
    if (host) host.probing = false
  }

  /** An attempt ended that began at `began`; `errorClass` null is success. Gives what is to be stored, or null. */
  learn(name: string, errorClass: string | null, at: number, began = at): HostChange | null {
    if (errorClass !== null && OURS.has(errorClass)) {
      this.forget(name)
      return null
    }
    const host = this.#hosts.get(name) ?? {
      recent: [],
      closedUntil: 0,
      invitedAt: 0,
      pauseMs: FIRST_PAUSE_MS,
      probing: false,
    }
    if (errorClass !== null && began < host.invitedAt) return null
    host.recent = [...host.recent.filter(each => at - each.at < WINDOW_MS).slice(-REMEMBERED), { at, errorClass }]
    const failed = host.recent.filter(each => each.errorClass !== null).length
    if (failed === 0) this.#hosts.delete(name)
    else this.#hosts.set(name, host)
    if (errorClass === null) {
      const wasClosed = host.closedUntil > 0
      Object.assign(host, { closedUntil: 0, pauseMs: FIRST_PAUSE_MS, probing: false })
      return wasClosed ? { receiver: name, closedUntil: null } : null
    }
    this.#trim(at)
    const newest = host.recent.slice(-TIMEOUTS)
    const hangs = newest.length === TIMEOUTS && newest.every(each => isTimeout(each.errorClass))
    const many = host.recent.length >= MIN_ATTEMPTS && failed / host.recent.length >= FAILED_SHARE
    // What was on its way when it closed says nothing new: only a probe, or a failure while it is open, lengthens a pause.
    const isClosed = host.closedUntil > at && !host.probing
    if (isClosed || (!host.probing && !many && !hangs)) return null
    host.closedUntil = at + host.pauseMs
    host.pauseMs = Math.min(LONGEST_PAUSE_MS, host.pauseMs * 2)
    host.probing = false
    return { receiver: name, closedUntil: host.closedUntil, pauseMs: host.pauseMs }
  }

  /** Hosts whose failures are long over are forgotten: whoever names hosts must not fill our memory. */
  #trim(at: number): void {
    if (this.#hosts.size <= MOST_HOSTS) return
    let left = LOOKED_THROUGH
    for (const [name, host] of this.#hosts) {
      if (left === 0) return
      left -= 1
      const newest = host.recent.at(-1)?.at ?? 0
      this.#hosts.delete(name)
      // What is kept is looked at again after all others.
      if (host.probing || host.closedUntil > at || at - newest < WINDOW_MS) this.#hosts.set(name, host)
    }
  }
}
