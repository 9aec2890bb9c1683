/** Says how the owner gets in again where the bootstrap key is no more: nothing else shows it. */
import type { App } from '../app.ts'

/** Never rejects: a server that runs goes on without a word about its key. */
export async function tellOfBootstrap({ asOperator, log }: Pick<App, 'asOperator' | 'log'>): Promise<void> {
  try {
    const answer = await asOperator(new Request('http://localhost/api/v1/keys/bootstrap'))
    if (!answer.ok) throw new Error(`the look at it was answered with ${answer.status}`)
    const { status } = (await answer.json()) as { status: string }
    if (status === 'active') return
    const advice =
      'set BABYCHAIN_API_KEY to a new text and restart; or stop the server and type: babychain keys create NAME --scopes runs:read,runs:write,callbacks:manage,keys:manage'
    log.warn({ key: 'bootstrap', status }, `the bootstrap key is ${status}. For a key that may do as much, ${advice}`)
  } catch (error) {
    log.warn({ err: error }, 'whether the bootstrap key is active is not known')
  }
}
