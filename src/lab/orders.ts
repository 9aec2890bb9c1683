/**
 * Orders that cost money, sent so that none is paid twice.
 *
 * 1. An order keeps its key until a run has answered it: a second click after a lost answer repeats the first.
 * 2. Another path or another body is another order.
 * 3. Every run that is made here is remembered as made here, for the first steps.
 */
import type { RunDto } from '../http/dto.ts'
import { ApiFailure, api } from './api.ts'

interface Unanswered {
  key: string
  /** It was sent and nobody knows what became of it: it may have made its run. */
  lost: boolean
}

/** The orders that no run has answered yet. */
const open = new Map<string, Unanswered>()

/** @throws ApiFailure */
export async function order(path: string, body?: unknown): Promise<RunDto> {
  const what = JSON.stringify([path, body])
  const mine = open.get(what) ?? { key: randomKey(), lost: false }
  open.set(what, mine)
  try {
    const run = await api<RunDto>('POST', path, { body, headers: { 'idempotency-key': mine.key } })
    open.delete(what)
    remember(run.id)
    return run
  } catch (error) {
    mine.lost ||= error instanceof ApiFailure && error.passes
    throw error
  }
}

/** Whether an order may have made a run that nobody here has seen. */
export function isAnyInDoubt(): boolean {
  return [...open.values()].some(each => each.lost)
}

const MADE = 'babychain.mine'

/** The newest runs that this browser has ordered. */
export function madeHere(): ReadonlySet<string> {
  try {
    return new Set(JSON.parse(localStorage.getItem(MADE) ?? '[]') as string[])
  } catch {
    return new Set()
  }
}

function remember(id: string): void {
  try {
    localStorage.setItem(MADE, JSON.stringify([...madeHere(), id].slice(-200)))
  } catch {
    // No room: a run that was paid for is shown all the same.
  }
}

function randomKey(): string {
  return `lab-${[...crypto.getRandomValues(new Uint8Array(12))].map(byte => byte.toString(16).padStart(2, '0')).join('')}`
}
