/**
 * A breaker per provider, model and API key: a way that keeps failing is left alone for a while, and burns no attempts
 * meanwhile.
 *
 * 1. What the steps of one key met closes the way for that key only: nobody waits because of another's prompts. But that our
 *    account there has no credit, or its key does not hold, is true for all. What goes well for one opens the way for all.
 * 2. A breaker opens after several faults in a row. Until its line is resumed nobody in line goes through, and then exactly
 *    one does, as its probe.
 * 3. The probe is a step that has not failed there yet, if there is one: a step that fails for its own sake must not keep
 *    the way closed for the others of its key. One whose answer is lost decides nothing, and another goes after a pause.
 */
import type { ErrorCode, StepError } from '../core/errors.ts'

/** The way of an API key's steps to a model at a provider. */
export interface Way {
  provider: string
  model: string
  apiKeyId: string
}

interface Gate {
  faults: number
  openUntil: number
  pauseMs: number
  /** The pause, or the moment after it in which those who waited come to stand in line. */
  isShut: boolean
  /** The holder whose attempt decides, after the pause. */
  probe: string | null
  /** Whose attempts failed. */
  met: Set<string>
}

/** Faults in a row that open a breaker: fewer would open on bad luck, more would cost every run an attempt. */
const FAULTS_TO_OPEN = 5
const FIRST_PAUSE_MS = 15_000
const LONGEST_PAUSE_MS = 5 * 60_000
/** Credit and keys do not mend themselves in seconds. */
const ACCOUNT_PAUSE_MS = 60_000
/** From the end of a pause to the choice of a probe: by then all whose time has come stand in line, also after a sweep. */
const GATHER_MS = 2_000
/** In place of an API key: what all of them meet. */
const ALL = ''

export class Breakers {
  /** By `provider/model`, then by API key or ALL. */
  readonly #gates = new Map<string, Map<string, Gate>>()

  /** When the way opens again; 0 when it is open. */
  openUntil(way: Way): number {
    return Math.max(0, ...this.#gatesOf(way).map(gate => gate.openUntil))
  }

  /** Whether the way is kept for another: the probe that is out, or one that is about to be chosen. */
  isKeptFrom(way: Way, holder: string): boolean {
    return this.#gatesOf(way).some(({ probe, isShut, met }) =>
      probe === null ? isShut && met.has(holder) : probe !== holder,
    )
  }

  /** Who of a line may go next. */
  next<W extends { holder: string }>(way: Way, line: Iterable<W>): W | undefined {
    const open = this.#gatesOf(way).filter(isOpen)
    const [head] = line
    if (open.length === 0) return head
    if (open.some(gate => gate.isShut || gate.probe !== null)) return undefined
    for (const each of line) if (!open.some(gate => gate.met.has(each.holder))) return each
    return head
  }

  /** A submit begins; where the breaker is open, it is the probe. */
  begin(way: Way, holder: string): void {
    for (const gate of this.#gatesOf(way).filter(isOpen)) gate.probe ??= holder
  }

  /** The holder gives its place back: another may probe. */
  end(way: Way, holder: string): void {
    for (const gate of this.#gatesOf(way)) if (gate.probe === holder) gate.probe = null
  }

  /** The answer to the holder's submit is lost. Gives the time when the line is to be resumed, if it was the probe. */
  lose(way: Way, holder: string, at: number): number | null {
    const decided = this.#gatesOf(way).filter(gate => gate.probe === holder)
    for (const gate of decided) {
      gate.probe = null
      shut(gate, at, gate.pauseMs)
    }
    return decided.length === 0 ? null : Math.max(...decided.map(gate => gate.openUntil)) + GATHER_MS
  }

  /** The provider did its part, or refused for a reason that is the step's own: its breakers close. False when none was there. */
  close({ provider, model }: Way): boolean {
    return this.#gates.delete(`${provider}/${model}`)
  }

  /** An attempt failed on the way. Gives the time when the line is to be resumed, if this fault opens the breaker. */
  fail(way: Way, holder: string, error: StepError, at: number): number | null {
    const account = isOfAccount(error)
    const gate = this.#gate(account ? { ...way, apiKeyId: ALL } : way)
    gate.faults = account ? FAULTS_TO_OPEN : gate.faults + 1
    gate.met.add(holder)
    // Those that were on their way when it opened are one fault with the first.
    if (gate.faults < FAULTS_TO_OPEN || at < gate.openUntil) return null
    shut(gate, at, account ? Math.max(ACCOUNT_PAUSE_MS, gate.pauseMs) : gate.pauseMs)
    return gate.openUntil + GATHER_MS
  }

  /** The line may go on, one at a time. */
  resume(way: Way, at: number): void {
    for (const gate of this.#gatesOf(way)) if (gate.openUntil <= at) gate.isShut = false
  }

  /** Breakers that are not closed, by `provider/model`: those of a key, or of any. */
  shown(at: number, apiKeyId?: string): Readonly<Record<string, 'open' | 'half_open'>> {
    const shown: Record<string, 'open' | 'half_open'> = {}
    for (const [place, gates] of this.#gates) {
      for (const [key, gate] of gates) {
        if (!isOpen(gate) || (apiKeyId !== undefined && key !== apiKeyId && key !== ALL)) continue
        if (gate.openUntil > at) shown[place] = 'open'
        else shown[place] ??= 'half_open'
      }
    }
    return shown
  }

  /** Those that stand in the way: its key's own, and that of all. */
  #gatesOf({ provider, model, apiKeyId }: Way): Gate[] {
    const gates = this.#gates.get(`${provider}/${model}`)
    if (!gates) return []
    return [gates.get(apiKeyId), gates.get(ALL)].filter(gate => gate !== undefined)
  }

  #gate({ provider, model, apiKeyId }: Way): Gate {
    const place = `${provider}/${model}`
    const known = this.#gates.get(place)?.get(apiKeyId)
    if (known) return known
    const gate = {
      faults: 0,
      openUntil: 0,
      pauseMs: FIRST_PAUSE_MS,
      isShut: false,
      probe: null,
      met: new Set<string>(),
    }
    this.#gates.set(place, (this.#gates.get(place) ?? new Map<string, Gate>()).set(apiKeyId, gate))
    return gate
  }
}

const isOpen = ({ faults }: Gate): boolean => faults >= FAULTS_TO_OPEN

function shut(gate: Gate, at: number, pauseMs: number): void {
  gate.openUntil = at + pauseMs
  gate.pauseMs = Math.min(LONGEST_PAUSE_MS, gate.pauseMs * 2)
  gate.isShut = true
}

/** Whether an error tells of the way, and not of what was asked. Of a success that holds nothing, only the latter is known. */
export function isFault(error: StepError): boolean {
  const { code, httpStatus = 0 } = error
  if (code === 'provider_error') return httpStatus >= 300
  return code === 'provider_overloaded' || code === 'network_error' || isOfAccount(error)
}

function isOfAccount({ code }: StepError): boolean {
  return code === 'insufficient_credit' || code === 'provider_unauthorized'
}

/** Whether nobody knows by it how the provider is: it had no part in the end, or its part is not known. */
export function isSilent({ code }: StepError): boolean {
  return SILENT.has(code)
}

const SILENT: ReadonlySet<ErrorCode> = new Set([
  'canceled',
  'deadline_exceeded',
  'input_fetch_failed',
  'internal',
  'outcome_unknown',
  'storage_unavailable',
])
