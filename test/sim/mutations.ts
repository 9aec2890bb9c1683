/**
 * Ways to break the engine, each a small change of one file, and who must notice.
 *
 * 1. A mutation is applied to a copy of the sources; its `from` stands there exactly once, or the list is out of date.
 * 2. `sim` is noticed by the simulation on the store in memory, `sqlite` by the one on the real store, and a path by
 *    that test file.
 */
export interface Mutation {
  name: string
  file: string
  from: string
  to: string
  /** Who notices. */
  by: 'sim' | 'sqlite' | `test/${string}`
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'effects before the commit',
    file: 'src/engine/actor.ts',
    from: '    if (batch.durable && !(await this.#commit(',
    to: '    this.run = batch.run\n    this.#order(batch.effects)\n    if (batch.durable && !(await this.#commit(',
    by: 'sim',
  },
  {
    name: 'a start submits again what was being submitted',
    file: 'src/core/machine.ts',
    from: "return step.lookup ? [] : [order('find', step)]",
    to: "return [{ type: 'submit', stepId: step.id, attempt: step.attempt.no }]",
    by: 'sim',
  },
  {
    name: 'a submit leaves without a note',
    file: 'src/engine/effects.ts',
    from: 'await deps.store.noteSubmit(attempt.token).catch(',
    to: 'await Promise.resolve().catch(',
    by: 'sim',
  },
  {
    name: 'a submit that may have been sent is taken for unsent',
    file: 'src/engine/effects.ts',
    from: '(await deps.store.isUnsent(attempt.token))',
    to: '(await deps.store.isUnsent(attempt.token)) !== null',
    by: 'sim',
  },
  {
    name: 'the log of submits is believed after a power cut',
    file: 'src/store/sqlite/send-log.ts',
    from: 'return isWhole ? tokens : null',
    to: 'return tokens',
    by: 'test/store/send-log.test.ts',
  },
  {
    name: 'what may have been sent is not carried to the next start',
    file: 'src/store/sqlite/send-log.ts',
    from: '[this.#head, ...this.#open]',
    to: '[this.#head]',
    by: 'test/store/send-log.test.ts',
  },
  {
    name: 'an unknown submit is sent again',
    file: 'src/engine/effects.ts',
    from: "if (found.type === 'none' || deps.resubmitUnknown)",
    to: "if (found.type === 'none' || found.type === 'unknown')",
    by: 'sim',
  },
  {
    name: 'a look-up is believed before the provider has settled',
    file: 'src/engine/effects.ts',
    from: 'if (provider.find && now < trusted)',
    to: 'if (now < 0)',
    by: 'sim',
  },
  {
    name: 'a look-up is believed although nobody measured the time',
    file: 'src/engine/effects.ts',
    from: "if (found.type === 'none' && deps.clock.now() < measured)",
    to: 'if (measured === null)',
    by: 'sim',
  },
  {
    name: 'our time follows the wall clock back',
    file: 'src/app/clock.ts',
    from: '    own = Math.max(own, wall)\n',
    to: '    own = wall\n',
    by: 'sim',
  },
  {
    name: 'a process begins before what is stored',
    file: 'src/app/clock.ts',
    from: '      if (time <= now()) return\n',
    to: '      if (time <= now() || time > 0) return\n',
    by: 'sim',
  },
  {
    name: 'a leap ahead goes unnoticed',
    file: 'src/app/clock.ts',
    from: 'if (wall - own >= JUMP_MS) sound = wall',
    to: 'if (wall - own >= JUMP_MS) sound += 0',
    by: 'test/engine/clock-jumps.test.ts',
  },
  {
    name: 'the outbox sleeps through a leap ahead',
    file: 'src/engine/outbox.ts',
    from: 'Math.min(at, clock.now() + LONGEST_NAP_MS)',
    to: 'at',
    by: 'test/engine/clock-jumps.test.ts',
  },
  {
    name: 'no idempotency check',
    file: 'src/store/sqlite/runs.ts',
    from: 'const replay = idempotency && this.replay(idempotency.key, idempotency.fingerprint)',
    to: 'const replay = null as Replay | null',
    by: 'sqlite',
  },
  {
    name: 'two terminal events',
    file: 'src/core/machine.ts',
    from: '  const events = logOf(before, settled, at)\n',
    to: '  const log = logOf(before, settled, at)\n  const last = log.at(-1)\n  const events = isEnded(settled) && last ? [...log, { ...last, seq: last.seq + 1 }] : log\n',
    by: 'sim',
  },
  {
    name: 'the callback is not part of the last commit',
    file: 'src/engine/actor.ts',
    from: 'wakeAt: wakeAt(run), delivery, lease }',
    to: 'wakeAt: wakeAt(run), delivery: null, lease }',
    by: 'sim',
  },
  {
    name: 'the callback is written after the transaction',
    file: 'src/store/sqlite/store.ts',
    from: '        if (commit.delivery) this.#deliveries.insert(commit.delivery, commit.lease)\n',
    to: '        const { delivery } = commit\n        if (delivery) setTimeout(() => this.#group.write(() => this.#deliveries.insert(delivery, null)), 60_000).unref()\n',
    by: 'sqlite',
  },
  {
    name: 'a delivery is settled without its lease',
    file: 'src/store/sqlite/deliveries.ts',
    from: 'WHERE id = ?7 AND lease_token = ?8',
    to: 'WHERE id = ?7 AND ?8 = ?8',
    by: 'test/store/sqlite.test.ts',
  },
  {
    name: 'no revision check',
    file: 'src/store/sqlite/runs.ts',
    from: 'if (stored?.revision !== expected) {',
    to: 'if (stored === undefined || stored === null) {',
    by: 'test/store/sqlite.test.ts',
  },
  {
    name: 'a second actor for a new run',
    file: 'src/engine/registry.ts',
    from: '    this.#actors.set(run.id, actor)\n    let created',
    to: '    let created',
    by: 'sim',
  },
  {
    name: 'steps go on after a cancel',
    file: 'src/core/machine.ts',
    from: "const stop = run.cancelRequestedAt !== null ? 'canceled' : failed ? 'skipped' : null",
    to: "const stop = failed ? 'skipped' : null",
    by: 'sim',
  },
  {
    name: 'a submit leaves although the cancel was committed with its intent',
    file: 'src/engine/effects.ts',
    from: '    if (live.run.cancelRequestedAt !== null) held = ',
    to: '    if (live.run.revision < 0) held = ',
    by: 'sim',
  },
  {
    name: 'a cancel of a run without an actor is not answered',
    file: 'src/engine/registry.ts',
    from: '    if (this.#wanted.has(actor.run.id)) return\n',
    to: '',
    by: 'sim',
  },
  {
    name: 'a content refusal is taken elsewhere',
    file: 'src/core/routing.ts',
    from: "  insufficient_credit: 'elsewhere',\n",
    to: "  insufficient_credit: 'elsewhere',\n  content_rejected: 'elsewhere',\n",
    by: 'sim',
  },
  {
    name: 'an unknown outcome is retried elsewhere',
    file: 'src/core/machine/steps.ts',
    from: "    case 'step.submit_unknown':\n",
    to: "    case 'step.submit_unknown':\n      if (run.cancelRequestedAt === null)\n        return failAttempt(step, stepError('network_error', 'lost'), event, 'free')\n",
    by: 'sim',
  },
  {
    name: 'storage that breaks off once ends a paid run',
    file: 'src/core/routing.ts',
    from: "  storage_unavailable: 'again',\n",
    to: '',
    by: 'sim',
  },
  {
    name: 'attempt numbers are used again',
    file: 'src/core/machine/steps.ts',
    from: 'no: step.attempts.length + 1',
    to: 'no: 1',
    by: 'sim',
  },
  {
    name: 'a copy that failed counts as kept',
    file: 'src/engine/effects.ts',
    from: '      if (!kept.ok) return failed(kept.error)\n      outputs.push(kept.output)\n',
    to: "      const lost = { mediaId: outputId(step.id, attempt.no, i), mime: '', bytes: 0, sha256: '' }\n      outputs.push(kept.ok ? kept.output : lost)\n",
    by: 'sim',
  },
  {
    name: 'the next step gets no picture of the one before',
    file: 'src/engine/pictures.ts',
    from: '[...wired, ...step.pictures.map(',
    to: '[...step.pictures.map(',
    by: 'sim',
  },
  {
    name: 'the room of a submit is not given back',
    file: 'src/engine/effects.ts',
    from: '    place.leave()\n',
    to: '    void place\n',
    by: 'test/engine/pictures.test.ts',
  },
  {
    name: 'pictures are read whether there is room or not',
    file: 'src/engine/picture-room.ts',
    from: 'first && first.bytes <= this.#free',
    to: 'first',
    by: 'test/engine/pictures.test.ts',
  },
  {
    name: 'a provider has places without end',
    file: 'src/engine/capacity.ts',
    from: '(this.#held.get(provider)?.size ?? 0) < this.#rules',
    to: '-1 < this.#rules',
    by: 'sim',
  },
  {
    name: 'a start gives places away before the running jobs have taken theirs',
    file: 'src/engine/registry.ts',
    from: '    deps.capacity.shut()\n',
    to: '',
    by: 'sim',
  },
  {
    name: 'money is spent beyond max_cost_usd',
    file: 'src/core/machine/steps.ts',
    from: '  if (run.maxCostUsd === null) return null\n',
    to: '  if (run.maxCostUsd !== 0) return null\n',
    by: 'sim',
  },
  {
    name: 'what happened while storage refused is forgotten',
    file: 'src/engine/actor.ts',
    from: '      this.#mail.unshift(...mail.filter(each => !each.reply))\n',
    to: '',
    by: 'sim',
  },
  {
    name: 'a delivery goes out under a new id each time',
    file: 'src/engine/outbox.ts',
    from: '      outcome = await notifier.send(delivery,',
    to: '      outcome = await notifier.send({ ...delivery, id: clock.id() },',
    by: 'sim',
  },
]
