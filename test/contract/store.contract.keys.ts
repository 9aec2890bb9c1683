/** The part of the Store's contract about keys: what they are, their secrets, what they spent. */
import { expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import {
  apiKey,
  attempt,
  creation,
  inState,
  leap,
  nextId,
  output,
  queuedRun,
  runAt,
  T0,
  webhookSecret,
} from '../support/store-runs.ts'
import type { Subject } from './store.contract.ts'

export function keysContract(subject: Subject): void {
  test('a key comes back as it was saved, and a second save replaces it', async () => {
    const { store } = subject
    const ada = apiKey({ createdAt: T0 + 1 })
    const bob = apiKey({
      ...{ createdAt: T0, expiresAt: T0 + 9, scopes: ['runs:write', 'keys:manage'], dailyBudgetUsd: 1.5 },
      ...{ ratePerMinute: 60, maxRunning: 2, maxQueued: 3, previous: { hash: 'old', until: T0 + 5 } },
    })
    await store.saveApiKey(ada)
    await store.saveApiKey(bob)
    expect(await store.apiKeys()).toEqual([bob, ada])
    const changed = { ...bob, revokedAt: T0 + 3, previous: null, hash: 'new' }
    await store.saveApiKey(changed)
    expect(await (await subject.reopen()).apiKeys()).toEqual([changed, ada])
  })

  test('two keys never have the same text', async () => {
    const { store } = subject
    const key = apiKey()
    await store.saveApiKey(key)
    await expect(store.saveApiKey({ ...apiKey(), hash: key.hash })).rejects.toThrow()
    expect(await store.apiKeys()).toHaveLength(1)
  })

  test('the last use moves forward only, and of known keys', async () => {
    const { store } = subject
    const key = apiKey()
    await store.saveApiKey(key)
    await store.touchApiKeys({ [key.id]: T0 + 5, nobody: T0 })
    await store.touchApiKeys({ [key.id]: T0 + 4 })
    expect(await store.apiKeys()).toEqual([{ ...key, lastUsedAt: T0 + 5 }])
  })

  test('a key and its first secret are saved together or not at all', async () => {
    const { store } = subject
    const [key, other] = [apiKey(), apiKey()]
    const secret = webhookSecret(key.id)
    await store.saveApiKey(key, secret)
    expect(await store.webhookSecrets(key.id)).toEqual([secret])
    await expect(store.saveApiKey(other, { ...secret, apiKeyId: other.id })).rejects.toThrow()
    expect(await store.apiKeys()).toEqual([key])
  })

  test('a rotation leaves two secrets, newest first; the next one drops the oldest', async () => {
    const { store } = subject
    const key = apiKey()
    const [first, second, third] = [0, 1, 2].map(n => webhookSecret(key.id, { createdAt: T0 + n }))
    await store.saveApiKey(key, first)
    await store.rotateWebhookSecret(second!, T0 + 86_400_000)
    expect(await store.webhookSecrets(key.id)).toEqual([second!, { ...first!, retiresAt: T0 + 86_400_000 }])
    await store.rotateWebhookSecret(third!, T0 + 99)
    expect(await (await subject.reopen()).webhookSecrets(key.id)).toEqual([third!, { ...second!, retiresAt: T0 + 99 }])
    expect(await subject.store.webhookSecrets(nextId())).toEqual([])
  })

  test('a rotation is of one key: the secrets of the others sign on as before', async () => {
    const { store } = subject
    const [ada, bob] = [apiKey(), apiKey()]
    const secrets = [webhookSecret(bob.id), webhookSecret(bob.id, { createdAt: T0 + 1 })] as const
    await store.saveApiKey(ada, webhookSecret(ada.id))
    await store.saveApiKey(bob, secrets[0])
    await store.rotateWebhookSecret(secrets[1], T0 + 50)
    const before = await store.webhookSecrets(bob.id)
    await store.rotateWebhookSecret(webhookSecret(ada.id, { createdAt: T0 + 2 }), T0 + 9)
    expect(await store.webhookSecrets(bob.id)).toEqual(before)
  })

  test('the newest secret is the one that does not retire, though the clock was set back before it was made', async () => {
    const { store } = subject
    const key = apiKey()
    const [first, second] = [webhookSecret(key.id, { createdAt: T0 + 9 }), webhookSecret(key.id)]
    await store.saveApiKey(key, first)
    await store.rotateWebhookSecret(second, T0 + 50)
    expect(await store.webhookSecrets(key.id)).toEqual([second, { ...first, retiresAt: T0 + 50 }])
  })

  test('spending counts each of hundreds that began in the same millisecond once', async () => {
    const { store } = subject
    const run = queuedRun()
    const ended = {
      outcome: 'failed' as const,
      endedAt: T0 + 9,
      cost: { estimatedUsd: 1, actualUsd: 1, basis: 'metered' as const },
    }
    const tries = Array.from({ length: 1_201 }, (_, n) =>
      attempt(n + 1, { ...ended, startedAt: n < 1_100 ? T0 : T0 + 1 }),
    )
    await store.create(creation(run))
    await store.commit(leap(run, runAt(run, 0, { status: 'failed', error: stepError('provider_error', 'x') }, tries)))
    const sum = async (since: number, until: number) =>
      (await spentIn(since, until)).reduce((usd, each) => usd + each.usd, 0)
    expect([await sum(T0, T0 + 2), await sum(T0, T0 + 1), await sum(T0 + 1, T0 + 2)]).toEqual([1_201, 1_100, 101])
  })

  const spentIn = async (since: number, until: number) =>
    (await Array.fromAsync(subject.store.spending(since, until))).flat()

  test('spending tells what attempts cost in a time: the ended ones as a sum, each open one by itself', async () => {
    const { store } = subject
    const estimate = { estimatedUsd: 0.05, actualUsd: null, basis: 'listed' as const }
    const ended = { outcome: 'failed' as const, endedAt: T0 + 9 }
    const tries = [
      attempt(1, { ...ended, startedAt: T0 - 1, cost: estimate }),
      attempt(2, { ...ended, startedAt: T0, cost: { ...estimate, actualUsd: 0.04 } }),
      attempt(3, { ...ended, startedAt: T0 + 1, cost: { estimatedUsd: null, actualUsd: null, basis: 'unknown' } }),
    ]
    const live = attempt(4, { startedAt: T0 + 2, cost: estimate })
    const queued = queuedRun()
    const run = runAt(queued, 0, { status: 'submitting', attempt: live, lookup: null }, tries)
    await store.create(creation(queued))
    await store.commit(leap(queued, run))
    const spent = await spentIn(T0, T0 + 3)
    expect(spent).toHaveLength(2)
    const [sum, open] = spent.toSorted((a, b) => Number(a.attempt !== null) - Number(b.attempt !== null))
    expect(sum).toMatchObject({ apiKeyId: run.apiKeyId, attempt: null })
    expect(sum?.usd).toBeCloseTo(0.04, 9)
    const stepId = run.steps.find(step => step.status === 'submitting')?.id
    expect(open).toEqual({ apiKeyId: run.apiKeyId, usd: 0.05, attempt: { stepId: stepId!, no: 4, startedAt: T0 + 2 } })
    expect(await spentIn(T0, T0 + 2)).toEqual([sum!])
    expect(await spentIn(T0 + 10, T0 + 99)).toEqual([])
    // Which step an open one is of is told of each run.
    const [other, open2] = [queuedRun(), attempt(1, { startedAt: T0 + 2, cost: estimate })]
    await store.create(creation(other))
    await store.commit(leap(other, runAt(other, 0, { status: 'submitting', attempt: open2, lookup: null }, [])))
    const steps = (await spentIn(T0 + 2, T0 + 3)).map(each => each.attempt?.stepId)
    expect(new Set(steps)).toEqual(new Set([stepId!, other.steps[0]!.id]))
    // What a resumed run took over was paid by the run before.
    const [step, ...rest] = queuedRun().steps
    const heir = { ...queuedRun(), resumedFrom: run.id }
    const taken = inState({ ...step!, inherited: true, attempts: tries }, { status: 'succeeded', outputs: [output()] })
    await store.create(creation({ ...heir, steps: [{ ...taken, id: heir.steps[0]!.id }, ...rest] }))
    expect(await spentIn(T0, T0 + 2)).toEqual([sum!])
  })
}
