// A network that is not there, as the kernel itself makes it: an empty network namespace, in which only loopback is up.

import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Seen } from './own-network.ts'

const dir = mkdtempSync(join(tmpdir(), 'babychain-network-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

const files = ['hosts', 'resolv.conf'].map(name => join(dir, name))
for (const file of files) writeFileSync(file, '')
const mounts = 'mount --bind "$0" /etc/hosts && mount --bind "$1" /etc/resolv.conf && ip link set lo up'
const inside = ['unshare', '-nm', 'sh', '-c', `${mounts} && shift && exec "$@"`, ...files]
const isPossible = (() => {
  try {
    return Bun.spawnSync([...inside, 'true'], { stderr: 'ignore' }).exitCode === 0
  } catch {
    return false
  }
})()
if (!isPossible) console.log('no network of our own here (it takes Linux, root, unshare and ip): skipped')

test.skipIf(!isPossible)(
  'without a network we are at fault, not the receiver; when it comes, it is found; and no silent name holds it up',
  async () => {
    const child = Bun.spawn([...inside, process.execPath, join(import.meta.dir, 'own-network.ts')], {
      stdout: 'pipe',
      stderr: 'pipe',
    })
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()])
    expect([await child.exited, err]).toEqual([0, ''])
    const { cutOff, connected, order } = JSON.parse(out) as Seen
    expect(cutOff).toEqual({
      'a public name': 'egress_down',
      'an address outside': 'egress_down',
      'a name of the hosts file': '200',
      'this machine': '200',
      'a closed port of this machine': 'connect_refused',
    })
    expect(connected).toEqual({
      'a name': '200',
      'a short name': '200',
      'a name that the operator gave under .local': '200',
      'no such name': 'dns_error',
    })
    expect(order.slice(0, 2).sort()).toEqual(['200', 'file'])
    expect(order.slice(2)).toEqual(['next', ...Array.from({ length: 20 }, () => 'dns_error')])
  },
  20_000,
)
