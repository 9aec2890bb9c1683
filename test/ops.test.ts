/** What an operator installs is held against what the program gives: names of metrics, units, paths. */
import { expect, test } from 'bun:test'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { VARIABLES } from '../src/config/variables.ts'
import { createMetrics } from '../src/http/metrics.ts'

const root = join(import.meta.dir, '..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')

interface Rules {
  groups: {
    rules: {
      alert: string
      expr: string
      labels: { severity: string }
      annotations: { summary: string; todo: string }
    }[]
  }[]
}
interface AlertTests {
  tests: { alert_rule_test: { alertname: string; exp_alerts: { exp_annotations: { todo?: string } }[] }[] }[]
}
interface Dashboard {
  panels: { title: string; gridPos: { x: number; y: number; w: number }; targets: { expr: string }[] }[]
}

const rules = (Bun.YAML.parse(read('ops/alerts.yml')) as Rules).groups.flatMap(group => group.rules)
const { panels } = JSON.parse(read('ops/grafana-dashboard.json')) as Dashboard

/** Names of series that /metrics gives; a histogram gives three. */
async function series(): Promise<Set<string>> {
  const text = await createMetrics({ process: { loopLag: () => ({ p99Ms: 0, maxMs: 0 }) } }).text()
  const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)]
  return new Set(
    types.flatMap(([, name = '', type]) =>
      type === 'histogram' ? [`${name}_bucket`, `${name}_count`, `${name}_sum`] : [name],
    ),
  )
}

test('every metric of the alerts and of the dashboard exists', async () => {
  const known = await series()
  const expressions = [
    ...rules.map(rule => rule.expr),
    ...panels.flatMap(panel => panel.targets.map(each => each.expr)),
  ]
  const named = expressions.flatMap(text => text.match(/\b(?:babychain|nodejs|process)_\w+/g) ?? [])
  expect(named.length).toBeGreaterThan(20)
  expect([...new Set(named)].filter(name => !known.has(name))).toEqual([])
})

test('every alert says what is wrong, how urgent it is, and what to do', () => {
  expect(rules.length).toBeGreaterThan(5)
  for (const { alert, labels, annotations } of rules) {
    expect([alert, ['page', 'ticket']]).toEqual([alert, expect.arrayContaining([labels.severity])])
    expect([alert, annotations.summary]).toEqual([alert, expect.stringMatching(/\.$/)])
    expect([alert, annotations.todo]).toEqual([alert, expect.stringMatching(/\.$/)])
  }
})

test('what their tests expect an alert to advise is what the rule advises', () => {
  const { tests } = Bun.YAML.parse(read('ops/alerts.test.yml')) as AlertTests
  const expected = tests
    .flatMap(each => each.alert_rule_test)
    .flatMap(({ alertname, exp_alerts }) => exp_alerts.map(({ exp_annotations: { todo } }) => [alertname, todo]))
  expect(expected.length).toBeGreaterThan(5)
  expect(expected).toEqual(expected.map(([name]) => [name, rules.find(rule => rule.alert === name)?.annotations.todo]))
})

const promtool = Bun.which('promtool')
test.skipIf(promtool === null)('the alerts fire at what they are for, by their own tests', () => {
  const ran = Bun.spawnSync([promtool ?? '', 'test', 'rules', join(root, 'ops/alerts.test.yml')])
  expect([ran.exitCode, `${ran.stdout}${ran.stderr}`]).toEqual([0, expect.stringContaining('SUCCESS')])
})

test('the scrapes of the runbook are of the jobs that the alerts name, and of where Litestream listens', () => {
  const [, text = ''] = /```yaml\n(scrape_configs:[\s\S]*?)```/.exec(read('docs/operations.md')) ?? []
  const { scrape_configs } = Bun.YAML.parse(text) as {
    scrape_configs: { job_name: string; static_configs: { targets: string[] }[] }[]
  }
  const named = rules.flatMap(rule => [...rule.expr.matchAll(/job="(\w+)"/g)].map(([, job = '']) => job))
  expect(new Set(scrape_configs.map(({ job_name }) => job_name))).toEqual(new Set(named))
  const { addr } = Bun.YAML.parse(read('litestream.yml')) as { addr: string }
  expect(scrape_configs.at(-1)?.static_configs[0]?.targets).toEqual([addr])
  // Prometheus and whoever else is on this machine; nobody beyond it.
  expect(addr).toStartWith('127.0.0.1:')
})

test('the panels of the dashboard do not overlap', () => {
  const places = panels.map(({ gridPos: { x, y } }) => `${x}/${y}`)
  expect(new Set(places).size).toBe(panels.length)
  for (const { gridPos } of panels) expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24)
})

test('whoever runs the image gives a stop the time that it takes', () => {
  const [, seconds = '0'] = /docker run --stop-timeout (\d+) /.exec(read('Dockerfile')) ?? []
  const [, graceMs = '0'] = /GRACE_MS = (\d+_000)\n/.exec(read('src/app.ts')) ?? []
  expect(Number(graceMs.replace('_', ''))).toBeGreaterThan(10_000)
  expect(Number(seconds) * 1_000).toBeGreaterThan(Number(graceMs.replace('_', '')) + 5_000)
  expect(read('docs/operations.md')).toContain(`--stop-timeout ${seconds}`)
})

test('the unit and its drop-in run the binary as the Dockerfile does', () => {
  const unit = read('ops/babychain.service')
  expect(unit).toContain('ExecStart=/usr/local/bin/babychain serve')
  expect(unit).toContain('BUN_CONFIG_MAX_HTTP_REQUESTS=2048')
  expect(unit).toMatch(/TimeoutStopSec=([3-9]\d|\d{3})/)
  for (const line of unit.split('\n')) expect(line).toMatch(/^(#.*|\[\w+\]|\w+=.+|)$/)
  const dropIn = read('ops/babychain-replicated.conf')
  // An ExecStart that is not emptied first would be a second one, which systemd refuses.
  expect(dropIn).toMatch(/ExecStart=\nExecStart=\/usr\/local\/bin\/litestream replicate/)
  expect(dropIn).toContain('-if-db-not-exists -if-replica-exists')
})

test('a unit that cannot start yet is tried for as long as it takes', () => {
  const unit = read('ops/babychain.service')
  expect(unit).toContain('\nRestart=always\n')
  // Of [Unit]; in another section systemd would not know it.
  expect(unit.split('\n[Service]')[0]).toContain('\nStartLimitIntervalSec=0\n')
})

test("the drop-in's head makes the configuration that its lines use", () => {
  const dropIn = read('ops/babychain-replicated.conf')
  const sed = /# {3}(sed .*) litestream\.yml > \/etc\/litestream\.yml/.exec(dropIn)?.[1] ?? 'false'
  const made = Bun.spawnSync(['sh', '-c', `${sed} litestream.yml`], { cwd: root }).stdout.toString()
  const { dbs } = Bun.YAML.parse(made) as { dbs: { path: string; replicas: { path: string }[] }[] }
  expect(dbs.map(db => db.path)).toEqual(['/var/lib/babychain/babychain.db'])
  expect(dbs[0]?.replicas[0]?.path).toBe('babychain')
  expect(dropIn).toContain('-if-replica-exists /var/lib/babychain/babychain.db')
  expect(read('ops/babychain.service')).toContain('StateDirectory=babychain\n')
})

test("the runbook's start without provider keys leaves none out", () => {
  const [, line = ''] = /^(env -u [\s\S]*?--resume)$/m.exec(read('docs/operations.md')) ?? []
  const unset = [...line.matchAll(/-u (\w+)/g)].map(match => match[1])
  const keys = VARIABLES.filter(({ meaning }) => meaning.startsWith('key of '))
  expect(unset).toEqual(keys.map(({ name }) => name))
})

test('the lines of the runbook that restore run as the user of the server, with its environment, at its place', () => {
  const dir = mkdtempSync(join(tmpdir(), 'babychain-ops-'))
  const tool = (name: string, script: string) =>
    writeFileSync(join(dir, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  // The end of its words is all that the image would be asked for.
  tool('docker', 'echo docker "$@"')
  tool('runuser', '[ "$1 $2 $3" = "-u babychain --" ] && shift 3 && exec "$@"')
  tool('litestream', 'echo "$BUCKET_NAME: $*"')
  writeFileSync(join(dir, 'env'), 'BUCKET_NAME=drill\n')
  const lines = read('docs/operations.md').match(/^ +(\(set -a|docker run).* restore .*$/gm) ?? []
  const ran = lines.map(line =>
    Bun.spawnSync(['sh', '-c', line.replace('/etc/babychain.env', join(dir, 'env'))], {
      env: { PATH: `${dir}:/usr/bin:/bin` },
    }).stdout.toString(),
  )
  rmSync(dir, { recursive: true })
  expect(ran).toEqual([
    'drill: restore -config /etc/litestream.yml /var/lib/babychain/babychain.db\n',
    expect.stringMatching(
      / --entrypoint litestream babychain restore -config \/etc\/litestream\.yml \/data\/babychain\.db\n$/,
    ),
  ])
})

test('the volume that Fly makes is the one that is mounted, and the head of its file sets what links begin with', () => {
  const fly = read('fly.toml')
  const { mounts } = Bun.TOML.parse(fly) as unknown as { mounts: { source: string; initial_size: string }[] }
  expect(mounts).toHaveLength(1)
  expect(mounts[0]?.initial_size).toMatch(/^\d+gb$/)
  for (const page of [fly, read('README.md')]) expect(page).not.toContain('fly volumes create')
  for (const page of [fly, read('ops/babychain.service'), read('Dockerfile')])
    expect(page).toContain('BABYCHAIN_PUBLIC_URL')
})

test('the drop-in refuses a Litestream that can corrupt the database', () => {
  const dir = mkdtempSync(join(tmpdir(), 'babychain-ops-'))
  const litestream = join(dir, 'litestream')
  // What systemd makes of the line: `$$` is `$`, `%%` is `%`, `\\\\` is one backslash.
  const line = /ExecStartPre=\/bin\/sh -ec '(.*)'/.exec(read('ops/babychain-replicated.conf'))?.[1] ?? ''
  const script = line
    .replaceAll('$$', '$')
    .replaceAll('%%', '%')
    .replaceAll('\\\\', '\\')
    .replaceAll('/usr/local/bin/litestream', litestream)
  const run = (version: string) => {
    writeFileSync(litestream, `#!/bin/sh\necho '${version}'\n`)
    chmodSync(litestream, 0o755)
    return Bun.spawnSync(['/bin/sh', '-ec', script], { stderr: 'ignore' }).exitCode
  }
  try {
    const taken = ['v0.5.17', '0.5.17', 'v0.5.18', 'v0.6.0', 'v1.0.0']
    const refused = ['v0.3.13', '0.5.0', 'v0.5.16', '(development build)', '']
    expect(taken.map(run)).toEqual(taken.map(() => 0))
    expect(refused.map(run)).toEqual(refused.map(() => 1))
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
})
