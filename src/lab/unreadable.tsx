import type { JsonText } from './json-text.ts'

/** What is wrong with the text, and the way out for who does not want to mend it. */
export function Unreadable({ bad, discard }: Pick<JsonText, 'bad' | 'discard'>) {
  if (bad === undefined) return null
  return (
    <small class="wrong">
      {bad}{' '}
      <button type="button" class="quiet" onClick={discard}>
        discard this text
      </button>
    </small>
  )
}
