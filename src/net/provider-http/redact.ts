// Removing secrets from what a provider sends back.
//
// Invariants
// 1. A secret is found as it is and as base64 (both alphabets, at any alignment), as a URL component and as JSON text.
// 2. Of a header value such as `Bearer abc…` the credential alone counts too. Words under eight characters do not: they
//    are schemes, and removing them would mangle ordinary text.

export type Redactor = (text: string) => string

const MIN_CHARS = 8
const MASK = '[redacted]'

export function createRedactor(secrets: readonly string[]): Redactor {
  const words = secrets.flatMap(value => [value, ...value.split(/\s+/)]).filter(word => word.length >= MIN_CHARS)
  // Longest first: the whole header value goes before the credential inside it.
  const forms = [...new Set(words.flatMap(formsOf))].sort((a, b) => b.length - a.length)
  return text => forms.reduce((clean, form) => (clean.includes(form) ? clean.replaceAll(form, MASK) : clean), text)
}

function formsOf(secret: string): string[] {
  const encoded = [0, 1, 2].flatMap(shift => {
    const core = base64At(secret, shift)
    return [core, core.replaceAll('+', '-').replaceAll('/', '_')]
  })
  const component = encodeURIComponent(secret)
  const forms = [secret, component, component.replaceAll('%20', '+'), JSON.stringify(secret).slice(1, -1), ...encoded]
  return forms.filter(form => form.length >= MIN_CHARS)
}

// The characters of the base64 text that depend on the secret alone, when `shift` foreign bytes stand before it.
function base64At(secret: string, shift: number): string {
  const bytes = Buffer.concat([Buffer.alloc(shift), Buffer.from(secret)])
  const first = Math.ceil((shift * 8) / 6)
  const last = Math.floor((bytes.byteLength * 8) / 6)
  return bytes.toString('base64').slice(first, last)
}
