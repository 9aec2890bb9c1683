/** What a run does now, in one sentence, and whose turn it is. */
import type { RunDto, StepDto } from '../http/dto.ts'
import { roleName, span } from './format.ts'
import { endedAt } from './live.ts'

export function sentence(run: RunDto, now: number): string {
  const step = run.steps.find(each => each.status === 'running')
  const spent = span(endedAt(run) - Date.parse(run.created_at))
  switch (run.status) {
    case 'queued':
      return 'Accepted and stored; the first step starts as soon as a provider has a place for it.'
    case 'running': {
      if (run.cancel_requested_at) return 'Canceling: the provider is asked to stop.'
      if (!step) return 'Between two steps: the next one starts as soon as a provider has a place for it.'
      return doing(step, now)
    }
    case 'succeeded':
      return `Done in ${spent}: ${isRemoved(run) ? 'its outputs were removed after their retention' : 'every output is kept here'}.`
    case 'failed':
      return `${failedStep(run)} failed after ${spent}.`
    case 'canceled':
      return `Canceled after ${spent}; what was finished ${isRemoved(run) ? 'was removed after its retention' : 'is kept'}.`
  }
}

/** Whether something that the run gave is stored no more: nothing goes on from there. */
export function isRemoved(run: RunDto): boolean {
  return run.steps.some(step => step.outputs?.some(output => !output.available))
}

/** What the run has given so far, such as "picture" or "pictures and film"; null for nothing. */
export function finished(run: RunDto): string | null {
  const count = (kind: StepDto['step_kind']) => succeeded(run).filter(step => step.step_kind === kind).length
  const [pictures, films] = [count('image'), count('video')]
  const what = [pictures && (pictures > 1 ? 'pictures' : 'picture'), films && (films > 1 ? 'films' : 'film')]
  return what.filter(Boolean).join(' and ') || null
}

/** What a new run in the place of this one does again; null when nothing is finished. */
export function startsOver(run: RunDto): string | null {
  const what = finished(run)
  const paid = run.mode === 'sandbox' ? 'made again' : 'made and paid again'
  const are = succeeded(run).length > 1 ? 'are' : 'is'
  return what && `starts over: the finished ${what} ${are} ${paid}`
}

const succeeded = (run: RunDto): StepDto[] => run.steps.filter(step => step.status === 'succeeded')

function doing(step: StepDto, now: number): string {
  const what = step.step_kind === 'video' ? 'the film' : 'the picture'
  const who = nameOf(step.provider_used)
  const no = step.attempts.at(-1)?.no ?? 1
  const again = no > 1 ? `, attempt ${no}` : ''
  switch (step.phase) {
    case 'submitting':
      return `Handing ${roleName(step.step_key)} to ${who.replace('The', 'the')}${again}.`
    case 'waiting': {
      const left = step.retry_at ? Date.parse(step.retry_at) - now : 0
      return `${step.error?.message ?? `Waiting for ${who}`}; tried again ${left > 0 ? `in ${span(left)}` : 'now'}.`
    }
    case 'keeping':
      return `Copying ${what} into our own storage, before its link expires.`
    default: {
      const share = step.progress === null ? '' : ` (${Math.round(step.progress * 100)} %)`
      return `${who} makes ${what}${share}${again}.`
    }
  }
}

function failedStep(run: RunDto): string {
  const step = run.steps.find(each => each.status === 'failed')
  return step ? roleName(step.step_key) : 'The run'
}

function nameOf(provider: string | null): string {
  if (provider === null) return 'A provider'
  return provider === 'sandbox' ? 'The sandbox' : provider
}
