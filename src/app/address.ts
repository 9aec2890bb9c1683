/**
 * Where a server of this machine listens, for the commands that ask it.
 *
 * 1. Who holds a data directory says itself where it listens. The settings of a command would be a guess: somebody else may
 *    listen there, and a key goes to no guess.
 */
import { hostname } from 'node:os'
import type { Config } from '../config.ts'
import { DataDirLocked } from '../store/sqlite/errors.ts'

/** The origin that settings name; what listens on every address is asked on loopback, here by the name `loopback`. */
export function serverOf({ host, port }: Pick<Config, 'host' | 'port'>, loopback = '127.0.0.1'): string {
  const name = host === '0.0.0.0' || host === '::' ? loopback : host
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`
}

/** Who holds the data directory: where to ask, or what to do where nobody can tell from here. `message` says who it is. */
export type Holder = { message: string } & ({ origin: string } | { origin: null; advice: string })

/** Reads it from the error with which a data directory did not open; null where no other process is the reason. */
export function holderOf(error: unknown): Holder | null {
  if (!(error instanceof DataDirLocked)) return null
  const { message, host, origin } = error
  // Its addresses are not ours: both have a 127.0.0.1.
  if (host !== null && host !== hostname()) {
    const advice = `It runs on ${host}, and this is ${hostname()}: ${TYPE_IT_THERE}`
    return { message, origin: null, advice }
  }
  if (host !== null && origin !== null) return { message, origin }
  const advice =
    'It does not say where it listens: it starts or stops, is no server, or is one of an older version. Type this again in a moment, or restart it.'
  return { message, origin: null, advice }
}

export const TYPE_IT_THERE = 'type this where the server runs, in its container if it has one.'
