/**
 * Measures the product beside the bare reference. README.md says what and how.
 *
 *   bun run bench                         all phases
 *   bun run bench burst steady            some
 *   bun run bench burst --burst=1000 --rounds=3 --product=dist/babychain --only=product --profile=/tmp/prof
 */
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { history } from './history.ts'
import { burst, crash, latency, type Setting, scale, sse, start, steady } from './phases.ts'
import { openRig } from './rig.ts'

const PHASES: Record<string, (setting: Setting) => Promise<void>> = {
  start,
  latency,
  burst,
  steady,
  crash,
  sse,
  history,
  scale,
}

const { values, positionals } = parseArgs({ args: Bun.argv.slice(2), strict: false, allowPositionals: true })
const names = positionals.length > 0 ? positionals : Object.keys(PHASES)
const unknown = names.filter(name => !Object.hasOwn(PHASES, name))
if (unknown.length > 0)
  throw new Error(`there is no phase ${unknown.join(', ')}; there are ${Object.keys(PHASES).join(', ')}`)

const rig = await openRig(resolve(String(values.product ?? join(import.meta.dir, '..'))))
const stop = (): void => {
  void rig.close().then(() => process.exit(130))
}
process.once('SIGINT', stop).once('SIGTERM', stop)
const setting: Setting = {
  rig,
  kinds: values.only === 'product' ? ['product'] : values.only === 'bare' ? ['bare'] : ['bare', 'product'],
  size: (name, standard) => (values[name] === undefined ? standard : Number(values[name])),
  ...(typeof values.profile === 'string' ? { profile: values.profile } : {}),
}
try {
  for (const name of names) await PHASES[name]?.(setting)
} finally {
  await rig.close()
}
process.exit(0)
