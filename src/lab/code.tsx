/** Code for what the page shows, to copy. */
import { signal, useSignal } from '@preact/signals'
import { LANGUAGES, type Language, type Subject, snippet } from './snippets.ts'

/** One choice for the whole page, kept in this browser. */
const language = signal<Language>((localStorage.getItem('babychain.language') as Language | null) ?? 'curl')

export interface Topic {
  title: string
  subject: Subject
}

export function CodePanel({ topics, note }: { topics: readonly Topic[]; note?: string }) {
  const picked = useSignal(0)
  const topic = topics[picked.value] ?? topics[0]
  if (!topic) return null
  const code = snippet(topic.subject, language.value, location.origin)
  return (
    <section class="pane code" aria-label="Code">
      <header class="pane-head">
        <fieldset class="tabs" aria-label="What the code does">
          {topics.map((each, i) => (
            <button type="button" key={each.title} aria-pressed={i === picked.value} onClick={() => (picked.value = i)}>
              {each.title}
            </button>
          ))}
        </fieldset>
        <fieldset class="tabs" aria-label="Language">
          {LANGUAGES.map(({ id, title }) => (
            <button
              type="button"
              key={id}
              aria-pressed={id === language.value}
              onClick={() => {
                language.value = id
                localStorage.setItem('babychain.language', id)
              }}
            >
              {title}
            </button>
          ))}
          <Copy text={code} />
        </fieldset>
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <pre tabIndex={0} data-snippet={topic.subject.does} data-language={language.value}>
        <Highlighted code={code} />
      </pre>
      <p class="foot dim">{note ?? 'The key stays out of the code: it is read from $BABYCHAIN_API_KEY.'}</p>
    </section>
  )
}

export function Copy({ text, label = 'copy' }: { text: string; label?: string }) {
  const outcome = useSignal<string | null>(null)
  return (
    <button
      type="button"
      class="quiet copy"
      onClick={() => {
        void copyText(text).then(done => {
          outcome.value = done ? 'copied' : 'not copied'
          setTimeout(() => {
            outcome.value = null
          }, 1600)
        })
      }}
    >
      {outcome.value ?? label}
    </button>
  )
}

/** The clipboard is closed to pages without https on another host than localhost; a selection works everywhere. */
async function copyText(text: string): Promise<boolean> {
  if (!navigator.clipboard) return copyBySelection(text)
  return navigator.clipboard.writeText(text).then(
    () => true,
    () => copyBySelection(text),
  )
}

/** Whether it was copied. What stands beneath an open dialog cannot be selected. */
function copyBySelection(text: string): boolean {
  const focused = document.activeElement
  const area = document.createElement('textarea')
  area.value = text
  area.className = 'offscreen'
  ;(document.querySelector('dialog[open]') ?? document.body).append(area)
  area.select()
  const done = document.execCommand('copy')
  area.remove()
  if (focused instanceof HTMLElement) focused.focus({ preventScroll: true })
  return done
}

const TOKENS =
  /(#[^\n]*|\/\/[^\n]*)|('(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`)|(?<![-\w])(const|await|async|function|import|from|if|for|of|new|throw|return|with|as|def|class|while|True|False|None|true|false|null|curl|print)\b|(\$\w+)|\b(\d[\d.]*)\b/g

/** Strings, words and comments in their tones; plain enough to be right for three languages. */
function Highlighted({ code }: { code: string }) {
  const parts = []
  let end = 0
  for (const found of code.matchAll(TOKENS)) {
    const [text, comment, string, word, variable] = found
    // A `#` or `//` inside of an address is no comment.
    if (comment && /[\w:'"]/.test(code[found.index - 1] ?? '')) continue
    parts.push(code.slice(end, found.index))
    const tone = comment ? 'comment' : string ? 'string' : word ? 'word' : variable ? 'variable' : 'figure'
    parts.push(<span class={`t-${tone}`}>{text}</span>)
    end = found.index + text.length
  }
  parts.push(code.slice(end))
  return <code>{parts}</code>
}
