/**
 * Orders that cost money, sent so that none is paid twice.
 *
 * 1. An order keeps its key until a run has answered it: a second click after a lost answer repeats the first.
 * 2. Another path or another body is another order.
 */
import type { RunDto } from '../http/dto.ts'
import { api } from './api.ts'

/** The keys of the orders that no run has answered yet. */
const open = new Map<string, string>()

/** @throws ApiFailure */
export async function order(path: string, body?: unknown): Promise<RunDto> {
  const what = JSON.stringify([path, body])
  const key = open.get(what) ?? randomKey()
  open.set(what, key)
  const run = await api<RunDto>('POST', path, { body, headers: { 'idempotency-key': key } })
  open.delete(what)
  return run
}

function randomKey(): string {
  return `lab-${[...crypto.getRandomValues(new Uint8Array(12))].map(byte => byte.toString(16).padStart(2, '0')).join('')}`
}
