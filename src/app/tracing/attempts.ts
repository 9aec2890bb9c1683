/**
 * Which run a provider call belongs to. A provider is asked for jobs and tokens and knows no runs; every run that the engine
 * goes on with passes through the Store, so the book is kept there.
 *
 * 1. It only reads, and only what is under way. A crash costs nothing: the next process loads its runs again.
 * 2. It holds the attempts that were asked for last, `MOST` of them.
 */
import type { Json } from '../../core/json.ts'
import type { Store } from '../../core/ports.ts'
import { remember } from '../../core/remember.ts'
import type { Run } from '../../core/run.ts'
import { overlay } from './overlay.ts'

export interface KnownAttempt {
  runId: string
  stepId: string
  stepKey: string
  /** The catalogue's name. */
  model: string
  providerModel: string
  no: number
}

/** More than can be under way in a process; some hundred bytes each. */
const MOST = 20_000

export class AttemptBook {
  readonly #tokens = new Map<string, KnownAttempt>()
  readonly #jobs = new Map<string, KnownAttempt>()

  /** The store, with every run that passes written down. */
  reading(store: Store): Store {
    const seen: Pick<Store, 'create' | 'commit' | 'run'> = {
      create: commit => {
        this.see(commit.run)
        return store.create(commit)
      },
      commit: commit => {
        this.see(commit.run)
        return store.commit(commit)
      },
      run: async id => {
        const run = await store.run(id)
        if (run) this.see(run)
        return run
      },
    }
    return overlay(store, seen)
  }

  see(run: Run): void {
    for (const step of run.steps) {
      if (!('attempt' in step)) continue
      const { token, provider, providerModel, no, jobRef } = step.attempt
      const known = { runId: run.id, stepId: step.id, stepKey: step.key, model: step.model, providerModel, no }
      remember(this.#tokens, token, known, MOST)
      if (jobRef !== null) remember(this.#jobs, jobKey(provider, jobRef), known, MOST)
    }
  }

  ofToken(token: string): KnownAttempt | null {
    return recall(this.#tokens, token)
  }

  ofJob(provider: string, jobRef: Json): KnownAttempt | null {
    return recall(this.#jobs, jobKey(provider, jobRef))
  }
}

function recall(book: Map<string, KnownAttempt>, key: string): KnownAttempt | null {
  const known = book.get(key)
  if (!known) return null
  remember(book, key, known, MOST)
  return known
}

function jobKey(provider: string, jobRef: Json): string {
  return `${provider} ${JSON.stringify(jobRef)}`
}
