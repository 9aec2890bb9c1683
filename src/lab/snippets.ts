/**
 * Code that is true: programs that do exactly what the page does, with nothing but what a machine has anyway
 * (curl; fetch of Node, Bun or Deno; Python's own library). The key and the secret come from the environment.
 */
import receiverInPython from './receivers/python.txt' with { type: 'text' }
import receiverInShell from './receivers/shell.txt' with { type: 'text' }
import receiverInTypeScript from './receivers/typescript.txt' with { type: 'text' }

export type Language = 'curl' | 'typescript' | 'python'
export const LANGUAGES: readonly { id: Language; title: string }[] = [
  { id: 'curl', title: 'cURL' },
  { id: 'typescript', title: 'TypeScript' },
  { id: 'python', title: 'Python' },
]

export type Subject =
  | { does: 'create'; slug: string; body: unknown }
  | { does: 'get' | 'watch' | 'cancel'; runId: string }
  | { does: 'verify' }

export function snippet(subject: Subject, language: Language, origin: string): string {
  const write = { curl, typescript, python }[language]
  return `${write(subject, origin).trimEnd()}\n`
}

/** A key for each run of the program, unless it is told one: what is sent again after silence must not be paid again. */
const WHY_A_KEY =
  'one key for one order: sent again with the same IDEMPOTENCY_KEY, it gives the same run and costs nothing'

const AUTH = '-H "Authorization: Bearer $BABYCHAIN_API_KEY"'
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

/** An argument has at most 128 KiB, a letter at most three bytes. */
const LONGEST_ARGUMENT = 40_000

/** What is longer comes by standard input. No line of JSON is the end mark: each begins with a space or a brace. */
function dataOf(body: unknown): string {
  const text = JSON.stringify(body, null, 2)
  return text.length > LONGEST_ARGUMENT ? `@- <<'JSON'\n${text}\nJSON` : quoted(text)
}

function curl(subject: Subject, origin: string): string {
  switch (subject.does) {
    case 'create':
      return [
        `# ${WHY_A_KEY}`,
        `curl -sS --fail-with-body ${quoted(`${origin}/api/v1/chains/${subject.slug}/runs`)} \\`,
        `  ${AUTH} \\`,
        `  -H 'Content-Type: application/json' \\`,
        `  -H "Idempotency-Key: \${IDEMPOTENCY_KEY:-lab-$(date +%s)-$$-$RANDOM}" \\`,
        `  -d ${dataOf(subject.body)}`,
      ].join('\n')
    case 'get':
      return `# waits up to 60 s for the end\ncurl -sS --fail-with-body '${origin}/api/v1/runs/${subject.runId}?wait=60' \\\n  ${AUTH}`
    case 'watch':
      return `curl -sS -N --fail-with-body '${origin}/api/v1/runs/${subject.runId}/events' \\\n  ${AUTH}`
    case 'cancel':
      return `curl -sS --fail-with-body -X POST '${origin}/api/v1/runs/${subject.runId}/cancel' \\\n  ${AUTH}`
    case 'verify':
      return receiverInShell
  }
}

const TS_HEADERS = `headers: { Authorization: \`Bearer \${process.env.BABYCHAIN_API_KEY}\` }`

function typescript(subject: Subject, origin: string): string {
  switch (subject.does) {
    case 'create':
      return `// ${WHY_A_KEY}
const key = process.env.IDEMPOTENCY_KEY ?? crypto.randomUUID()
const response = await fetch('${origin}/api/v1/chains/${subject.slug}/runs', {
  method: 'POST',
  headers: {
    Authorization: \`Bearer \${process.env.BABYCHAIN_API_KEY}\`,
    'Content-Type': 'application/json',
    'Idempotency-Key': key,
  },
  body: JSON.stringify(${JSON.stringify(subject.body, null, 2).replaceAll('\n', '\n  ')}),
})
const run = await response.json()
if (!response.ok) throw new Error(\`\${run.code}: \${run.detail}\`)
console.log(run.id, run.status)`
    case 'get':
      return `// waits up to 60 s for the end
const response = await fetch('${origin}/api/v1/runs/${subject.runId}?wait=60', {
  ${TS_HEADERS},
})
const run = await response.json()
if (!response.ok) throw new Error(\`\${run.code}: \${run.detail}\`)
console.log(run.status, run.steps.at(-1).generation_output_file)`
    case 'watch':
      return `const response = await fetch('${origin}/api/v1/runs/${subject.runId}/events', {
  ${TS_HEADERS},
})
if (!response.ok) throw new Error(await response.text())
let rest = ''
for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
  const blocks = (rest + chunk).split('\\n\\n')
  rest = blocks.pop() ?? ''
  for (const block of blocks) {
    const data = block.split('\\n').find(line => line.startsWith('data: '))
    if (!data) continue
    const event = JSON.parse(data.slice(6))
    console.log(event.seq, event.type, event.step_key ?? '')
  }
}`
    case 'cancel':
      return `const response = await fetch('${origin}/api/v1/runs/${subject.runId}/cancel', {
  method: 'POST',
  ${TS_HEADERS},
})
const run = await response.json()
if (!response.ok) throw new Error(\`\${run.code}: \${run.detail}\`)
console.log(run.status)`
    case 'verify':
      return receiverInTypeScript
  }
}

const PY_OPEN = (path: string, more = '') => `import json, os, urllib.request

request = urllib.request.Request(
    "${path}",
    headers={"Authorization": f"Bearer {os.environ['BABYCHAIN_API_KEY']}"},${more}
)`

function python(subject: Subject, origin: string): string {
  switch (subject.does) {
    case 'create':
      return `import json, os, urllib.request, uuid

# ${WHY_A_KEY}
key = os.environ.get("IDEMPOTENCY_KEY") or str(uuid.uuid4())
body = ${pythonValue(subject.body, '')}

request = urllib.request.Request(
    "${origin}/api/v1/chains/${subject.slug}/runs",
    data=json.dumps(body).encode(),
    headers={
        "Authorization": f"Bearer {os.environ['BABYCHAIN_API_KEY']}",
        "Content-Type": "application/json",
        "Idempotency-Key": key,
    },
)
with urllib.request.urlopen(request) as response:
    run = json.load(response)
print(run["id"], run["status"])`
    case 'get':
      return `${PY_OPEN(`${origin}/api/v1/runs/${subject.runId}?wait=60`)}
# waits up to 60 s for the end
with urllib.request.urlopen(request) as response:
    run = json.load(response)
print(run["status"], run["steps"][-1].get("generation_output_file"))`
    case 'watch':
      return `${PY_OPEN(`${origin}/api/v1/runs/${subject.runId}/events`)}
with urllib.request.urlopen(request) as response:
    for line in response:
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            print(event["seq"], event["type"], event["step_key"] or "")`
    case 'cancel':
      return `${PY_OPEN(`${origin}/api/v1/runs/${subject.runId}/cancel`, '\n    method="POST",')}
with urllib.request.urlopen(request) as response:
    print(json.load(response)["status"])`
    case 'verify':
      return receiverInPython
  }
}

/** A value as Python writes it. JSON's strings are Python's strings, but for its words. */
function pythonValue(value: unknown, indent: string): string {
  const inner = `${indent}    `
  if (value === null || value === undefined) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]'
    return `[\n${value.map(item => `${inner}${pythonValue(item, inner)},`).join('\n')}\n${indent}]`
  }
  if (typeof value === 'object') {
    const rows = Object.entries(value).map(
      ([key, item]) => `${inner}${JSON.stringify(key)}: ${pythonValue(item, inner)},`,
    )
    return rows.length === 0 ? '{}' : `{\n${rows.join('\n')}\n${indent}}`
  }
  return JSON.stringify(value)
}
